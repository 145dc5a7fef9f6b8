"""The last look at a pod before it is created, after everything that had a hand in it, plugins too.

`pod_shape` says which fields there may be; here is what their values may be in this installation.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from agenttask.api import constants as c
from agenttask.api.errors import PodRejected
from agenttask.controller.installation import Installation
from agenttask.controller.pod_shape import ANNOTATIONS, LABELS, Container, Mount, Pod, Toleration, Volume
from agenttask.domain.nearest import quoted
from agenttask.domain.quantity import amount

_VARIABLES: Final = frozenset({"HOME", "TMPDIR", c.ENV_TRACEPARENT, "TRACESTATE", c.ENV_GATEWAY_TOKEN})
_VARIABLE_PREFIX: Final = "OTEL_"
_HOST_RESOURCES: Final = frozenset({"cpu", "memory", "ephemeral-storage"})
_FIXED_MOUNTS: Final = {"workspace": c.WORKSPACE_PATH, "scratch": c.SCRATCH_PATH, "document": c.DOCUMENT_DIR}
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
    _only("metadata.labels", pod.metadata.labels, LABELS)
    _only("metadata.annotations", pod.metadata.annotations, ANNOTATIONS)
    _require("metadata.ownerReferences", owner.controller and owner.uid == pod.metadata.labels.get(c.LABEL_TASK_UID))
    _require("spec.automountServiceAccountToken", not spec.automount_service_account_token)
    _require("spec.enableServiceLinks", not spec.enable_service_links)
    _require("spec.securityContext.runAsNonRoot", spec.security_context.run_as_non_root)
    _require("spec.imagePullSecrets", {one.name for one in spec.image_pull_secrets} <= set(installation.images.pull_secrets))
    _security(container)
    _variables(container, installation)
    _resources(container, installation)
    _volumes(spec.volumes, container.volume_mounts)
    _tolerations(spec.tolerations, installation)


def _security(container: Container) -> None:
    security = container.security_context
    _require("securityContext.allowPrivilegeEscalation", not security.allow_privilege_escalation)
    _require("securityContext.readOnlyRootFilesystem", security.read_only_root_filesystem)
    _require("securityContext.runAsNonRoot", security.run_as_non_root)


def _variables(container: Container, installation: Installation) -> None:
    """Secrets under our prefixes only, where the installation allows them, and no plain variable that changes how a process starts."""
    for variable in container.env:
        if variable.value_from is not None:
            secret = variable.value_from.secret_key_ref.name
            credential = variable.name.startswith(c.ENV_CREDENTIAL_PREFIX) and installation.may_hold_credentials(container.image)
            allowed = credential or (variable.name.startswith(c.ENV_SECRET_PREFIX) and installation.may_name_secret(secret))
            _require(f"env {quoted(variable.name)} from Secret {quoted(secret)}", variable.value is None and allowed)
        else:
            own = variable.name in _VARIABLES or variable.name.startswith(_VARIABLE_PREFIX)
            allowed = own or variable.name in installation.runner_environment
            _require(f"env {quoted(variable.name)}", variable.value is not None and allowed)
    names = [variable.name for variable in container.env]
    _require("env: names stand once", len(names) == len(set(names)))


def _resources(container: Container, installation: Installation) -> None:
    """Limits on all that a node has, and devices of a defined class only."""
    devices = _HOST_RESOURCES.union(*(one.resources for one in installation.device_classes))
    for where, amounts in (("requests", container.resources.requests), ("limits", container.resources.limits)):
        _only(f"resources.{where}", amounts, devices)
    _require("resources.requests", container.resources.requests.keys() >= {"cpu", "memory"})
    _require("resources.limits.memory", "memory" in container.resources.limits)
    for name in _HOST_RESOURCES & container.resources.limits.keys():
        _require(f"resources.limits.{name}: 0 is no limit", amount(container.resources.limits[name]) > 0)


def _volumes(volumes: Iterable[Volume], mounts: Iterable[Mount]) -> None:
    """Inputs, weights and certificates are read-only and each below its own folder; nothing is mounted over anything else."""
    kinds: dict[str, Volume] = {}
    for volume in volumes:
        sources = (volume.empty_dir, volume.downward_api, volume.config_map, volume.persistent_volume_claim)
        _require(f"volume {quoted(volume.name)}: one source", sum(source is not None for source in sources) == 1)
        _require(f"volume {quoted(volume.name)}: size", volume.empty_dir is None or amount(volume.empty_dir.size_limit) > 0)
        claim = volume.persistent_volume_claim
        _require(f"volume {quoted(volume.name)}: read-only", claim is None or claim.read_only)
        _require(f"volume {quoted(volume.name)}: stands once", volume.name not in kinds)
        kinds[volume.name] = volume
    paths: set[str] = set()
    for mount in mounts:
        where = f"mount {quoted(mount.mount_path)}"
        _require(where, mount.name in kinds and mount.mount_path not in paths)
        paths.add(mount.mount_path)
        fixed = _FIXED_MOUNTS.get(mount.name)
        if fixed is not None:
            _require(where, mount.mount_path == fixed)
            continue
        folder, _, name = mount.mount_path.rpartition("/")
        _require(where, mount.read_only and name not in ("", ".", ".."))
        _require(where, _belongs(folder, kinds[mount.name]))


def _belongs(folder: str, volume: Volume) -> bool:
    """Whether such a volume may be mounted below this folder: whole ConfigMaps as inputs, one key of one as certificates."""
    config_map, claim = volume.config_map, volume.persistent_volume_claim
    match folder:
        case c.INPUTS_PATH:
            return claim is not None or (config_map is not None and not config_map.items)
        case c.MODELS_PATH:
            return claim is not None
        case c.CA_DIR:
            return config_map is not None and bool(config_map.items)
        case _:
            return False


def _tolerations(tolerations: Iterable[Toleration], installation: Installation) -> None:
    """Those of the device classes, and a short stay on a node that is lost."""
    ours = [msgspec.convert(one, Toleration, strict=False) for device in installation.device_classes for one in device.tolerations]
    for one in tolerations:
        brief = one.key in _NODE_TAINTS and one.effect == "NoExecute" and one.toleration_seconds is not None
        _require(f"toleration {quoted(one.key)}", brief or one in ours)


def _only(where: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    extra = sorted(set(given) - set(allowed))
    _require(f"{where}: {', '.join(map(quoted, extra))}", not extra)


def _require(what: str, holds: object) -> None:
    if not holds:
        raise PodRejected(f"the pod leaves the rules for task pods: {what}")
