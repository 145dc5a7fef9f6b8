"""Device classes of kind `remote`: a task's local models are there what their `remoteModel` says, under the names that the steps know.

Limits, shares and breakers are those of the AgentModel that is really called: `elsewhere` tells which.
"""

from collections.abc import Mapping, Sequence

import msgspec

from agenttask.api.model import AgentModelSpec
from agenttask.api.task import AgentTaskSpec
from agenttask.controller.installation import LOCAL_CLIENT
from agenttask.controller.seen_model import SeenModel
from agenttask.domain.device import DeviceClass
from agenttask.domain.nearest import did_you_mean, quoted

REMOTE = "remote"


def models_on(one: DeviceClass | None, models: Mapping[str, AgentModelSpec], seen: Mapping[str, SeenModel]) -> dict[str, AgentModelSpec]:
    """The models of a task's pod on this class; what a local one falls back to stays as it is."""
    return {name: _on(one, model, seen) for name, model in models.items()}


def elsewhere(one: DeviceClass | None, names: Sequence[str], seen: Mapping[str, SeenModel]) -> dict[str, str]:
    """Of the names that a task's pod has on this class, those that are another AgentModel there, each with that one."""
    return remote_names(names, seen) if one is not None and one.kind == REMOTE else {}


def remote_names(names: Sequence[str], seen: Mapping[str, SeenModel]) -> dict[str, str]:
    """Of these names, those that are another AgentModel on classes of kind `remote`, each with that one."""
    found = ((name, _remote(model.spec, seen)) for name in names if (model := seen.get(name)) is not None and model.spec is not None)
    return {name: remote for name, remote in found if remote is not None}


def _on(one: DeviceClass | None, model: AgentModelSpec, seen: Mapping[str, SeenModel]) -> AgentModelSpec:
    remote = seen.get(_remote(model, seen) or "") if one is not None and one.kind == REMOTE else None
    return model if remote is None or remote.spec is None else msgspec.structs.replace(remote.spec, fallback=model.fallback)


def _remote(model: AgentModelSpec, seen: Mapping[str, SeenModel]) -> str | None:
    """The name of the AgentModel that a local one is elsewhere, if it is there and can be read."""
    name = model.local.remote_model if model.client == LOCAL_CLIENT and model.local is not None else None
    found = seen.get(name) if name is not None else None
    return name if found is not None and found.spec is not None else None


def not_on(one: DeviceClass, spec: AgentTaskSpec, models: Mapping[str, AgentModelSpec], seen: Mapping[str, SeenModel]) -> str | None:
    """Why the task's pod cannot be on this class as it is: its runtime, or a local model that is nowhere else."""
    runtime = spec.pod.runtime_class_name
    if one.runtime_class_name and runtime is not None and runtime != one.runtime_class_name:
        return f"needs runtime class {quoted(one.runtime_class_name)}, pod.runtimeClassName is {quoted(runtime)}"
    if one.kind != REMOTE:
        return None
    return next((why for name, model in models.items() if (why := _no_remote(name, model, seen)) is not None), None)


def _no_remote(name: str, model: AgentModelSpec, seen: Mapping[str, SeenModel]) -> str | None:
    if model.client != LOCAL_CLIENT or model.local is None:
        return None
    remote = model.local.remote_model
    if remote is None:
        return f"AgentModel {quoted(name)} is local and names no remoteModel"
    of = f"AgentModel {quoted(remote)}, the remoteModel of {quoted(name)},"
    found = seen.get(remote)
    if found is None:
        return f"there is no {of.removesuffix(',')}{did_you_mean(remote, seen.keys() - {name})}"
    if found.spec is None:
        return f"{of} cannot be read: {found.problem}"
    return f"{of} is local itself" if found.spec.client == LOCAL_CLIENT else None
