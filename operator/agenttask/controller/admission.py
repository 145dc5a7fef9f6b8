"""Whether a task's pod may be created now: models, Secrets, inputs, device, in this order.

A missing thing makes the task wait and names the key whose change wakes it; a contradiction refuses it for good.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from agenttask.api.errors import AgentTaskError, InvalidTask
from agenttask.api.model import AgentModelSpec
from agenttask.api.reasons import Reason
from agenttask.api.task import AgentTaskSpec, DeviceStatus, Input
from agenttask.controller.acceptance import PluginNames, known
from agenttask.controller.installation import LOCAL_CLIENT, Installation
from agenttask.domain.device import DeviceStrategy, Stock
from agenttask.domain.model_names import models_named, with_fallbacks
from agenttask.domain.model_rules import check_model
from agenttask.domain.nearest import did_you_mean, listed, quoted
from agenttask.domain.observation import Admission, Admitted, Refused, Waits
from agenttask.domain.placement import place
from agenttask.domain.secret_uses import secret_uses

Key = tuple[str, ...]
"""What may be missing: `("model", namespace, name)`, `("configmap", …)`, `("claim", …)`, `("devices",)`."""
DEVICES: Key = ("devices",)
MODEL, CONFIG_MAP, CLAIM = "model", "configmap", "claim"
_KINDS: Final = {CONFIG_MAP: "ConfigMap", CLAIM: "PersistentVolumeClaim"}
Exists = Callable[[Key], bool]


class SeenModel(Struct, frozen=True, kw_only=True):
    """An AgentModel of the cache; `spec` is None when it cannot be read, `secret` is the Secret with its credential."""

    spec: AgentModelSpec | None
    problem: str = ""
    secret: str = ""


class Gate:
    """Decides admission with the installation's settings and plugins."""

    def __init__(self, installation: Installation, names: PluginNames, strategies: Mapping[str, DeviceStrategy]) -> None:
        self._installation, self._names, self._strategies = installation, names, strategies

    def admit(
        self, namespace: str, spec: AgentTaskSpec, *, models: Mapping[str, SeenModel], exists: Exists, inventory: Sequence[Stock]
    ) -> Admission:
        """Whether the pod may be created; `models` are all of the namespace, `exists` tells of inputs by their key."""
        try:
            resolved = self._models(namespace, spec, models)
            if isinstance(resolved, Waits):
                return resolved
            self._own_secrets_only(spec, models)
            absent = missing(namespace, spec.inputs, resolved, exists)
            if absent is not None:
                return absent
            return self._device(spec, resolved, inventory)
        except AgentTaskError as error:
            return Refused(reason=error.reason, message=str(error))

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

    def _own_secrets_only(self, spec: AgentTaskSpec, models: Mapping[str, SeenModel]) -> None:
        """A model's credential is not the task's to read, whatever the globs say."""
        taken = {model.secret: name for name, model in models.items() if model.secret}
        for use in secret_uses(spec.steps):
            if use.ref.name in taken:
                problem = f"the Secret {quoted(use.ref.name)} holds the credential of AgentModel {taken[use.ref.name]!r}; use another"
                raise InvalidTask(use.field, problem)

    def _device(self, spec: AgentTaskSpec, models: Mapping[str, AgentModelSpec], inventory: Sequence[Stock]) -> Admission:
        wished = spec.device.classes or self._installation.default_device_classes
        placement = place(wished, self._strategies[spec.device.strategy], inventory)
        if placement.chosen is None:
            # A class is defined by the settings, which are read once: no device that is freed makes an unknown one known.
            missing = () if placement.waiting is Reason.UNKNOWN_CLASS else (DEVICES,)
            return Waits(reason=placement.waiting or Reason.WAITING_FOR_DEVICE, message=placement.reason, missing=missing)
        image = self._installation.image_for(spec.pod.image, placement.chosen, list(models.values()))
        secret = next((name for name, model in models.items() if model.credentials is not None), None)
        if secret is not None and not self._installation.may_hold_credentials(image):
            raise InvalidTask(
                "spec.pod.image",
                f"image {quoted(image)} may not get the credential of AgentModel {secret!r}; "
                "use the installation's runner image, or have the image added to credentialImages",
            )
        return Admitted(device=DeviceStatus(class_=placement.chosen.name, reason=placement.reason, considered=placement.considered))


def models_used(spec: AgentTaskSpec, models: Mapping[str, SeenModel]) -> dict[str, AgentModelSpec]:
    """The models of a task's pod: those that it names, and their fallbacks, as far as they are there."""
    return {name: found for name in _wanted(spec, models) if (seen := models.get(name)) is not None and (found := seen.spec) is not None}


def _wanted(spec: AgentTaskSpec, models: Mapping[str, SeenModel]) -> dict[str, str]:
    def fallbacks_of(name: str) -> Sequence[str]:
        seen = models.get(name)
        return seen.spec.fallback if seen is not None and seen.spec is not None else ()

    return with_fallbacks(models_named(spec), fallbacks_of)


def missing(namespace: str, inputs: Sequence[Input], models: Mapping[str, AgentModelSpec], exists: Exists) -> Waits | None:
    """The first ConfigMap or claim that is not there, of those that the pod mounts."""
    for field, kind, name in [*_of_inputs(inputs), *_of_models(models)]:
        key = (kind, namespace, name)
        if not exists(key):
            message = f"{field}: namespace {namespace} has no {_KINDS[kind]} {quoted(name)} yet"
            return Waits(reason=Reason.MISSING_INPUT, message=message, missing=(key,))
    return None


def _of_inputs(inputs: Sequence[Input]) -> Iterator[tuple[str, str, str]]:
    for index, one in enumerate(inputs):
        if one.config_map is not None:
            yield f"spec.inputs[{index}]", CONFIG_MAP, one.config_map.name
        elif one.persistent_volume_claim is not None:
            yield f"spec.inputs[{index}]", CLAIM, one.persistent_volume_claim.claim_name


def _of_models(models: Mapping[str, AgentModelSpec]) -> Iterator[tuple[str, str, str]]:
    for name, model in models.items():
        if model.ca_bundle is not None:
            yield f"AgentModel {name}: spec.caBundle", CONFIG_MAP, model.ca_bundle.config_map_key_ref.name
        if model.local is not None and model.local.persistent_volume_claim is not None:
            yield f"AgentModel {name}: spec.local.persistentVolumeClaim", CLAIM, model.local.persistent_volume_claim.claim_name
