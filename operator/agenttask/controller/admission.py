"""Whether a task's pod may be created now: models, Secrets and inputs, then its turn (dispatcher.py), then its device.

A missing thing makes the task wait and names the key whose change wakes it; a contradiction refuses it for good.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from agenttask.api.errors import AgentTaskError, InvalidTask
from agenttask.api.model import AgentModelSpec
from agenttask.api.reasons import Reason
from agenttask.api.task import AgentTaskSpec, Device, DeviceStatus
from agenttask.controller.acceptance import PluginNames, known
from agenttask.controller.installation import LOCAL_CLIENT, Installation
from agenttask.controller.pod_policy import secrets_of
from agenttask.controller.remote_models import models_on, not_on
from agenttask.controller.seen_model import SeenModel
from agenttask.domain.device import DeviceStrategy, Stock
from agenttask.domain.model_names import models_named, with_fallbacks
from agenttask.domain.model_rules import check_model
from agenttask.domain.nearest import did_you_mean, listed, quoted
from agenttask.domain.observation import Admission, Admitted, Refused, Waits
from agenttask.domain.placement import place
from agenttask.domain.secret_uses import secret_uses

Key = tuple[str, ...]
"""What may be missing: `("model", namespace, name)`, `("configmap", …)`, `("claim", …)`."""
MODEL, CONFIG_MAP, CLAIM = "model", "configmap", "claim"
_KINDS: Final = {CONFIG_MAP: "ConfigMap", CLAIM: "PersistentVolumeClaim"}
Exists = Callable[[Key], bool]
NOTHING_FULL: Final[Mapping[str, str]] = {}


class DeviceWish(Struct, frozen=True, kw_only=True):
    """All that the placement of a task depends on besides what is in stock; tasks with equal wishes wait in one heap."""

    device: Device
    out: tuple[tuple[str, str], ...] = ()
    """Device classes that are out of the question for the task, each with the reason."""


class Gate:
    """Decides admission with the installation's settings and plugins."""

    def __init__(self, installation: Installation, names: PluginNames, strategies: Mapping[str, DeviceStrategy]) -> None:
        self._installation, self._names, self._strategies = installation, names, strategies

    def ready(self, namespace: str, spec: AgentTaskSpec, *, models: Mapping[str, SeenModel], exists: Exists) -> Waits | Refused | None:
        """What the task lacks before it may wait for its turn; `models` are all of the namespace, `exists` tells of inputs by their key."""
        try:
            resolved = self._models(namespace, spec, models)
            if isinstance(resolved, Waits):
                return resolved
            check_apart(spec, models)
            return missing(namespace, spec, resolved, exists)
        except AgentTaskError as error:
            return Refused(reason=error.reason, message=str(error))

    def wish(self, spec: AgentTaskSpec, models: Mapping[str, SeenModel], tried: Mapping[str, str]) -> DeviceWish:
        """What placement is to know of the task; `tried` are classes that were given up, each with the reason."""
        used = models_used(spec, models)
        never = ((one.name, not_on(one, spec, used, models)) for one in self._installation.device_classes)
        return DeviceWish(device=spec.device, out=tuple({**tried, **{name: why for name, why in never if why is not None}}.items()))

    def place(self, wish: DeviceWish, inventory: Sequence[Stock], full: Mapping[str, str] = NOTHING_FULL) -> Admission:
        """The device that a task with this wish gets now; `full` are classes that its queue has enough of, each with the reason."""
        device = wish.device
        wished = device.classes or self._installation.default_device_classes
        try:
            placement = place(wished, self._strategies[device.strategy], inventory, gpu=device.gpu, out={**dict(wish.out), **full})
        except AgentTaskError as error:
            return Refused(reason=error.reason, message=str(error))
        if placement.chosen is None:
            return Waits(reason=placement.waiting or Reason.WAITING_FOR_DEVICE, message=placement.reason)
        return Admitted(device=DeviceStatus(class_=placement.chosen.name, reason=placement.reason, considered=placement.considered))

    def check_there(self, spec: AgentTaskSpec, class_: str, models: Mapping[str, SeenModel]) -> Refused | None:
        """Why the task's pod can never be on the class that it got: the models that it has there, or its image beside their credentials."""
        chosen = self._installation.device_class(class_)
        there = models_on(chosen, models_used(spec, models), models)
        try:
            for name, model in there.items():
                self._possible(name, model)
            image = self._installation.image_for(spec.pod.image, chosen, list(there.values()))
            secret = next((name for name, model in there.items() if model.credentials is not None), None)
            if secret is not None and not self._installation.may_hold_credentials(image):
                raise InvalidTask(
                    "spec.pod.image",
                    f"image {quoted(image)} may not get the credential of AgentModel {secret!r}; "
                    "use the installation's runner image, or have the image added to credentialImages",
                )
        except AgentTaskError as error:
            return Refused(reason=error.reason, message=str(error))
        return None

    def _models(self, namespace: str, spec: AgentTaskSpec, models: Mapping[str, SeenModel]) -> dict[str, AgentModelSpec] | Waits:
        resolved: dict[str, AgentModelSpec] = {}
        for name, of in _wanted(spec, models).items():
            seen = models.get(name)
            what = f"AgentModel {quoted(name)}" + (f", a fallback of {quoted(of)}" if of else "")
            if seen is None:
                problem = f"no {what}; namespace {namespace} has: {listed(models)}{did_you_mean(name, models)}"
                return Waits(reason=Reason.UNKNOWN_MODEL, message=problem, missing=((MODEL, namespace, name),))
            if seen.spec is None:
                problem = f"{what} cannot be read: {seen.problem}"
                return Waits(reason=Reason.UNKNOWN_MODEL, message=problem, missing=((MODEL, namespace, name),))
            self._possible(name, seen.spec)
            resolved[name] = seen.spec
        return resolved

    def _possible(self, name: str, model: AgentModelSpec) -> None:
        """Refuse a model that this installation can never run."""
        check_model(name, model, prefix=f"AgentModel {name}: ")
        known(f"AgentModel {name}: spec.client", "LLM client", model.client, self._names.llm_clients)
        if model.client != LOCAL_CLIENT or model.local is None:
            return
        known(f"AgentModel {name}: spec.local.factory", "model factory", model.local.factory, self._names.model_factories)
        if model.local.hub is not None and not self._installation.hub_downloads:
            raise InvalidTask(
                f"AgentModel {name}: spec.local.hub",
                "pods of this installation download no weights; use package, path or persistentVolumeClaim, or have hubDownloads set",
            )


def check_apart(spec: AgentTaskSpec, models: Mapping[str, SeenModel]) -> None:
    """A model's credential is not the task's to read, whatever the globs say, and its weights are not the task's to write.

    Raises:
        InvalidTask: with the field.
    """
    taken = {model.secret: name for name, model in models.items() if model.secret}
    named = [*((use.field, use.ref.name) for use in secret_uses(spec.steps)), *secrets_of(spec.pod)]
    for field, secret in named:
        if secret in taken:
            raise InvalidTask(field, f"the Secret {quoted(secret)} holds the credential of AgentModel {taken[secret]!r}; use another")
    weights = {claim: name for name, model in models.items() if (claim := _weights(model.spec)) is not None}
    for field, claim in _written_claims(spec):
        if claim in weights:
            problem = f"the claim {quoted(claim)} holds the weights of AgentModel {weights[claim]!r}, which no task may write"
            raise InvalidTask(field, f"{problem}; use another, or mount it read-only as an input")


def _weights(model: AgentModelSpec | None) -> str | None:
    local = model.local if model is not None else None
    return local.persistent_volume_claim.claim_name if local is not None and local.persistent_volume_claim is not None else None


def _written_claims(spec: AgentTaskSpec) -> Iterator[tuple[str, str]]:
    if spec.workspace.persistent_volume_claim is not None:
        yield "spec.workspace.persistentVolumeClaim", spec.workspace.persistent_volume_claim.claim_name
    for index, one in enumerate(spec.pod.volumes):
        if one.persistent_volume_claim is not None and not one.read_only:
            yield f"spec.pod.volumes[{index}].persistentVolumeClaim", one.persistent_volume_claim.claim_name


def models_used(spec: AgentTaskSpec, models: Mapping[str, SeenModel]) -> dict[str, AgentModelSpec]:
    """The models of a task's pod: those that it names, and their fallbacks, as far as they are there."""
    return {name: found for name in _wanted(spec, models) if (seen := models.get(name)) is not None and (found := seen.spec) is not None}


def _wanted(spec: AgentTaskSpec, models: Mapping[str, SeenModel]) -> dict[str, str]:
    def fallbacks_of(name: str) -> Sequence[str]:
        seen = models.get(name)
        return seen.spec.fallback if seen is not None and seen.spec is not None else ()

    return with_fallbacks(models_named(spec), fallbacks_of)


def missing(namespace: str, spec: AgentTaskSpec, models: Mapping[str, AgentModelSpec], exists: Exists) -> Waits | None:
    """The first ConfigMap or claim that is not there, of those that the pod mounts."""
    for field, kind, name in [*_of_task(spec), *_of_models(models)]:
        key = (kind, namespace, name)
        if not exists(key):
            message = f"{field}: namespace {namespace} has no {_KINDS[kind]} {quoted(name)} yet"
            return Waits(reason=Reason.MISSING_INPUT, message=message, missing=(key,))
    return None


def _of_task(spec: AgentTaskSpec) -> Iterator[tuple[str, str, str]]:
    workspace = spec.workspace.persistent_volume_claim
    if workspace is not None:
        yield "spec.workspace", CLAIM, workspace.claim_name
    inputs = ((f"spec.inputs[{index}]", one.config_map, one.persistent_volume_claim) for index, one in enumerate(spec.inputs))
    volumes = ((f"spec.pod.volumes[{index}]", one.config_map, one.persistent_volume_claim) for index, one in enumerate(spec.pod.volumes))
    for field, config_map, claim in (*inputs, *volumes):
        if config_map is not None:
            yield field, CONFIG_MAP, config_map.name
        elif claim is not None:
            yield field, CLAIM, claim.claim_name


def remote_models(namespace: str, spec: AgentTaskSpec, models: Mapping[str, SeenModel]) -> tuple[Key, ...]:
    """The models whose change may make a class of kind `remote` usable, or another one there."""
    local = {name: model.local.remote_model for name, model in models_used(spec, models).items() if model.local is not None}
    return tuple((MODEL, namespace, name) for name in (*local, *local.values()) if name is not None)


def _of_models(models: Mapping[str, AgentModelSpec]) -> Iterator[tuple[str, str, str]]:
    for name, model in models.items():
        if model.ca_bundle is not None:
            yield f"AgentModel {name}: spec.caBundle", CONFIG_MAP, model.ca_bundle.config_map_key_ref.name
        if model.local is not None and model.local.persistent_volume_claim is not None:
            yield f"AgentModel {name}: spec.local.persistentVolumeClaim", CLAIM, model.local.persistent_volume_claim.claim_name
