"""Whether a task's pod may be created now: models, Secrets, inputs, device, in this order.

A missing thing makes the task wait and names the key whose change wakes it; a contradiction refuses it for good.
"""

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from agenttask.api.errors import AgentTaskError, InvalidTask
from agenttask.api.model import AgentModelSpec
from agenttask.api.reasons import Reason
from agenttask.api.task import AgentTaskSpec, DeviceStatus, Input
from agenttask.controller.acceptance import PluginNames, known, secrets_named
from agenttask.controller.installation import LOCAL_CLIENT, Installation
from agenttask.domain.device import DeviceStrategy, Stock
from agenttask.domain.model_names import models_named
from agenttask.domain.nearest import did_you_mean, listed, quoted
from agenttask.domain.observation import Admission, Admitted, Refused, Waits
from agenttask.domain.placement import place

Key = tuple[str, ...]
"""What may be missing: `("model", namespace, name)`, `("configmap", …)`, `("claim", …)`, `("devices",)`."""
DEVICES: Key = ("devices",)
MODEL, CONFIG_MAP, CLAIM = "model", "configmap", "claim"
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
            absent = missing_input(namespace, spec.inputs, exists)
            if absent is not None:
                return absent
            return self._device(spec, resolved, inventory)
        except AgentTaskError as error:
            return Refused(reason=error.reason, message=str(error))

    def _models(self, namespace: str, spec: AgentTaskSpec, models: Mapping[str, SeenModel]) -> dict[str, AgentModelSpec] | Waits:
        resolved: dict[str, AgentModelSpec] = {}
        for name in models_named(spec):
            seen = models.get(name)
            if seen is None:
                problem = f"no AgentModel {quoted(name)}; namespace {namespace} has: {listed(models)}{did_you_mean(name, models)}"
                return Waits(reason=Reason.UNKNOWN_MODEL, message=problem, missing=((MODEL, namespace, name),))
            found = seen.spec
            if found is None:
                problem = f"AgentModel {quoted(name)} cannot be read: {seen.problem}"
                return Waits(reason=Reason.UNKNOWN_MODEL, message=problem, missing=((MODEL, namespace, name),))
            known(f"AgentModel {name}: spec.client", "LLM client", found.client, self._names.llm_clients)
            if found.client == LOCAL_CLIENT and found.local is not None:
                known(f"AgentModel {name}: spec.local.factory", "model factory", found.local.factory, self._names.model_factories)
            resolved[name] = found
        return resolved

    def _own_secrets_only(self, spec: AgentTaskSpec, models: Mapping[str, SeenModel]) -> None:
        """A model's credential is not the task's to read, whatever the globs say."""
        taken = {model.secret: name for name, model in models.items() if model.secret}
        for field, secret in secrets_named(spec):
            if secret in taken:
                raise InvalidTask(field, f"the Secret {quoted(secret)} holds the credential of AgentModel {taken[secret]!r}; use another")

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


def missing_input(namespace: str, inputs: Sequence[Input], exists: Exists) -> Waits | None:
    """The first input that is not there."""
    for index, one in enumerate(inputs):
        if one.config_map is not None:
            what, key = "ConfigMap", (CONFIG_MAP, namespace, one.config_map.name)
        elif one.persistent_volume_claim is not None:
            what, key = "PersistentVolumeClaim", (CLAIM, namespace, one.persistent_volume_claim.claim_name)
        else:
            continue
        if not exists(key):
            message = f"spec.inputs[{index}]: namespace {namespace} has no {what} {quoted(key[2])} yet"
            return Waits(reason=Reason.MISSING_INPUT, message=message, missing=(key,))
    return None
