"""What the fields of an AgentModel must be to each other: the rules of its CRD, for files and for an API server with an older CRD."""

import re
from typing import Final

from agenttask.api.errors import InvalidTask
from agenttask.api.model import AgentModelSpec, LocalModel
from agenttask.domain.http_headers import check_header_names
from agenttask.domain.nearest import quoted

_BASE_URL: Final = re.compile(r"https?://[^/?#@]+(/[^?#@]*)?")


def check_model(name: str, spec: AgentModelSpec, *, prefix: str = "") -> None:
    """Refuse a model that contradicts itself; `prefix` comes before the field's path.

    Raises:
        InvalidTask: with the field.
    """
    if spec.client == "local" and spec.local is None:
        raise InvalidTask(f"{prefix}spec.local", "client local needs local, which says where the weights are")
    if spec.client == "openai" and spec.endpoint is None:
        problem = "client openai needs endpoint, the base URL of an OpenAI-compatible server"
        raise InvalidTask(f"{prefix}spec.endpoint", problem)
    if spec.endpoint is not None and not _BASE_URL.fullmatch(spec.endpoint):
        problem = f"{quoted(spec.endpoint)} is no base URL that names a host, without a user or password, query or fragment"
        raise InvalidTask(f"{prefix}spec.endpoint", problem)
    check_header_names(spec.headers, f"{prefix}spec.headers")
    if name in spec.fallback:
        raise InvalidTask(f"{prefix}spec.fallback", f"{name!r} cannot be its own fallback; name other models")
    if spec.local is not None and spec.local.remote_model == name:
        raise InvalidTask(f"{prefix}spec.local.remoteModel", f"{name!r} cannot be its own remoteModel; name the model of an endpoint")
    if spec.local is not None:
        _check_local(spec.local, f"{prefix}spec.local")


def _check_local(local: LocalModel, field: str) -> None:
    places = {"package": local.package, "path": local.path, "persistentVolumeClaim": local.persistent_volume_claim, "hub": local.hub}
    given = [name for name, place in places.items() if place is not None]
    if len(given) != 1:
        what = " and ".join(given) if given else "none"
        raise InvalidTask(field, f"exactly one of package, path, persistentVolumeClaim and hub is needed in local, {what} is given")
    claim = local.persistent_volume_claim
    if claim is not None and ".." in claim.path.split("/"):
        raise InvalidTask(f"{field}.persistentVolumeClaim.path", f"{claim.path!r} leaves the claim; write it without ..")
