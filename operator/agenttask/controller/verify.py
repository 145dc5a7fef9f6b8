"""The last look at a pod before it is created, after everything that had a hand in it, plugins too.

`pod_shape` says which fields there may be; here is what their values may be in this installation.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from agenttask.api import constants as c
from agenttask.api import pod_options
from agenttask.api.errors import PodRejected
from agenttask.controller import kueue
from agenttask.controller.installation import Installation
from agenttask.controller.pod import NODE_TOLERATION_SECONDS
from agenttask.controller.pod_policy import tolerable
from agenttask.controller.pod_shape import ANNOTATIONS, LABELS, Container, Pod, PodSpec, Toleration
from agenttask.controller.verify_rule import only, require
from agenttask.controller.verify_volumes import check_volumes
from agenttask.domain.nearest import quoted
from agenttask.domain.pod_rules import reserved
from agenttask.domain.quantity import amount

_VARIABLES: Final = frozenset({"HOME", "TMPDIR", c.ENV_TRACEPARENT, "TRACESTATE", c.ENV_GATEWAY_TOKEN})
_VARIABLE_PREFIX: Final = "OTEL_"
_HOST_RESOURCES: Final = frozenset({"cpu", "memory", "ephemeral-storage"})
_NODE_TAINTS: Final = frozenset({"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"})
_decode: Final = msgspec.json.Decoder(Pod).decode


def verify(body: bytes, installation: Installation) -> None:
    """Refuse a pod that leaves the rules.

    Raises:
        PodRejected: with the path of the field at fault.
    """
    try:
        pod = _decode(body)
    except msgspec.MsgspecError as error:
        raise PodRejected(f"the pod has something that no task's pod may have: {error}") from error
    spec, container = pod.spec, pod.spec.containers[0]
    owner = pod.metadata.owner_references[0]
    only("metadata.labels", filter(reserved, pod.metadata.labels), LABELS)
    only("metadata.annotations", filter(reserved, pod.metadata.annotations), ANNOTATIONS)
    require("metadata.ownerReferences", owner.controller and owner.uid == pod.metadata.labels.get(c.LABEL_TASK_UID))
    require("spec.schedulingGates", kueue.agrees(pod.metadata.labels, [gate.name for gate in spec.scheduling_gates]))
    require("spec.automountServiceAccountToken", not spec.automount_service_account_token)
    require("spec.enableServiceLinks", not spec.enable_service_links)
    require("spec.securityContext.runAsNonRoot", spec.security_context.run_as_non_root)
    for secret in spec.image_pull_secrets:
        allowed = secret.name in installation.images.pull_secrets or installation.may_name_secret(secret.name)
        require(f"spec.imagePullSecrets: {quoted(secret.name)}", allowed)
    _security(container)
    _variables(container, installation)
    _resources(container, installation)
    check_volumes(spec.volumes, container.volume_mounts, installation)
    _tolerations(spec.tolerations, installation)
    _classes(spec, installation)


def _security(container: Container) -> None:
    security = container.security_context
    require("securityContext.allowPrivilegeEscalation", not security.allow_privilege_escalation)
    require("securityContext.readOnlyRootFilesystem", security.read_only_root_filesystem)
    require("securityContext.runAsNonRoot", security.run_as_non_root)


def _variables(container: Container, installation: Installation) -> None:
    """Secrets under our prefixes only, where the installation allows them, and no plain variable that changes how a process starts."""
    for variable in container.env:
        if variable.value_from is not None:
            secret = variable.value_from.secret_key_ref.name
            credential = variable.name.startswith(c.ENV_CREDENTIAL_PREFIX) and installation.may_hold_credentials(container.image)
            allowed = credential or (variable.name.startswith(c.ENV_SECRET_PREFIX) and installation.may_name_secret(secret))
            require(f"env {quoted(variable.name)} from Secret {quoted(secret)}", variable.value is None and allowed)
        else:
            own = variable.name in _VARIABLES or variable.name.startswith(_VARIABLE_PREFIX)
            allowed = own or variable.name in installation.runner_environment
            require(f"env {quoted(variable.name)}", variable.value is not None and allowed)
    store = installation.output_store_for(container.image)
    for source in container.env_from:
        secret, known = source.secret_ref.name, store.secret_name if store is not None else ""
        require(f"envFrom Secret {quoted(secret)}", secret == known and not source.secret_ref.optional)
    names = [variable.name for variable in container.env]
    require("env: names stand once", len(names) == len(set(names)))


def _resources(container: Container, installation: Installation) -> None:
    """Limits on all that a node has, and devices of a defined class only."""
    devices = _HOST_RESOURCES.union(*(one.resources for one in installation.device_classes))
    for where, amounts in (("requests", container.resources.requests), ("limits", container.resources.limits)):
        only(f"resources.{where}", amounts, devices)
    require("resources.requests", container.resources.requests.keys() >= {"cpu", "memory"})
    require("resources.limits.memory", "memory" in container.resources.limits)
    for name in _HOST_RESOURCES & container.resources.limits.keys():
        require(f"resources.limits.{name}: 0 is no limit", amount(container.resources.limits[name]) > 0)


def _classes(spec: PodSpec, installation: Installation) -> None:
    """Claims, runtime, priority and account: those of a device class, or on the installation's lists."""
    templates = {one.resource_claim_template for one in installation.device_classes if one.resource_claim_template}
    only("spec.resourceClaims", (one.resource_claim_template_name for one in spec.resource_claims), templates)
    names = [one.name for one in spec.resource_claims]
    require("resources.claims", names == [one.name for one in spec.containers[0].resources.claims] and len(names) == len(set(names)))
    runtimes = {*installation.allowed_runtime_classes, *(one.runtime_class_name for one in installation.device_classes)} - {""}
    only("spec.runtimeClassName", filter(None, [spec.runtime_class_name]), runtimes)
    only("spec.priorityClassName", filter(None, [spec.priority_class_name]), installation.allowed_priority_classes)
    only("spec.serviceAccountName", filter(None, [spec.service_account_name]), installation.allowed_service_accounts)


def _tolerations(tolerations: Iterable[Toleration], installation: Installation) -> None:
    """Those of the device classes and of the installation's list, and a short stay on a node that is lost."""
    ours = [msgspec.convert(one, Toleration, strict=False) for device in installation.device_classes for one in device.tolerations]
    for one in tolerations:
        brief = one.key in _NODE_TAINTS and one.effect == "NoExecute" and one.toleration_seconds == NODE_TOLERATION_SECONDS
        wished = brief or one in ours or tolerable(_as_wished(one), installation.allowed_tolerations)
        require(f"toleration {quoted(one.key)}", wished)


def _as_wished(one: Toleration) -> pod_options.Toleration:
    """The toleration as a task writes it; what a task cannot write is covered by nothing."""
    given = {name: value for name, value in msgspec.to_builtins(one).items() if value not in ("", None)}
    try:
        return msgspec.convert(given, pod_options.Toleration)
    except msgspec.ValidationError as error:
        raise PodRejected(f"the pod leaves the rules for task pods: toleration {quoted(one.key)}") from error
