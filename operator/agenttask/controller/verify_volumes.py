"""The last look at what is mounted into a task's pod, and where."""

from collections.abc import Iterable
from typing import Final

from agenttask.api import constants as c
from agenttask.controller.installation import Installation
from agenttask.controller.pod_shape import Mount, Volume
from agenttask.controller.pod_volumes import VOLUME_PREFIX
from agenttask.controller.verify_rule import require
from agenttask.domain.nearest import quoted
from agenttask.domain.pod_rules import inside, volume_place
from agenttask.domain.quantity import amount

_WORKSPACE: Final = "workspace"
_FIXED_MOUNTS: Final = {_WORKSPACE: c.WORKSPACE_PATH, "scratch": c.SCRATCH_PATH, "document": c.DOCUMENT_DIR}


def check_volumes(volumes: Iterable[Volume], mounts: Iterable[Mount], installation: Installation) -> None:
    """Inputs, weights and certificates are read-only and each below its own folder; nothing is mounted over anything else.

    Raises:
        PodRejected: with the volume or mount at fault.
    """
    kinds: dict[str, Volume] = {}
    for volume in volumes:
        sources = (volume.empty_dir, volume.downward_api, volume.config_map, volume.persistent_volume_claim, volume.secret)
        require(f"volume {quoted(volume.name)}: one source", sum(source is not None for source in sources) == 1)
        require(f"volume {quoted(volume.name)}: size", volume.empty_dir is None or amount(volume.empty_dir.size_limit) > 0)
        claim = volume.persistent_volume_claim
        own = volume.name == _WORKSPACE or volume.name.startswith(VOLUME_PREFIX)
        require(f"volume {quoted(volume.name)}: read-only", claim is None or claim.read_only or own)
        if volume.secret is not None:
            allowed = installation.may_name_secret(volume.secret.secret_name) and volume.name.startswith(VOLUME_PREFIX)
            require(f"volume {quoted(volume.name)} of Secret {quoted(volume.secret.secret_name)}", allowed)
        require(f"volume {quoted(volume.name)}: stands once", volume.name not in kinds)
        kinds[volume.name] = volume
    paths: set[str] = set()
    for mount in mounts:
        where = f"mount {quoted(mount.mount_path)}"
        require(where, mount.name in kinds and mount.mount_path not in paths)
        paths.add(mount.mount_path)
        fixed = _FIXED_MOUNTS.get(mount.name)
        if fixed is not None:
            require(where, mount.mount_path == fixed and _is_fixed(mount.name, kinds[mount.name]))
            continue
        if mount.name.startswith(VOLUME_PREFIX):
            require(where, volume_place(mount.mount_path) is None and _is_own(mount, kinds[mount.name]))
            require(where, not any(inside(path, mount.mount_path) or inside(mount.mount_path, path) for path in paths - {mount.mount_path}))
            continue
        folder, _, name = mount.mount_path.rpartition("/")
        require(where, mount.read_only and name not in ("", ".", ".."))
        require(where, _belongs(folder, kinds[mount.name]))


def _is_fixed(name: str, volume: Volume) -> bool:
    """Whether the runner's own places are what they must be: the document ours, scratch the pod's, the workspace that or a claim."""
    match name:
        case "document":
            return volume.downward_api is not None
        case "workspace":
            return volume.empty_dir is not None or volume.persistent_volume_claim is not None
        case _:
            return volume.empty_dir is not None


def _is_own(mount: Mount, volume: Volume) -> bool:
    """Whether a task's volume is one that tasks may have; of what others wrote, only claims can be written."""
    config_map = volume.config_map
    writable = volume.empty_dir is not None or volume.persistent_volume_claim is not None
    return volume.downward_api is None and (config_map is None or not config_map.items) and (writable or mount.read_only)


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
