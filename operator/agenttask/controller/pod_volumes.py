"""The files of a task's pod: workspace, scratch, the document, inputs, and the task's own volumes."""

from collections.abc import Iterator
from typing import Any, Final

from agenttask.api import constants as c
from agenttask.api.pod_options import PodVolume
from agenttask.api.task import AgentTaskSpec, Input, Workspace
from agenttask.controller.installation import Installation

VOLUME_PREFIX: Final = "volume-"
"""A volume's own name may be one of ours."""
Part = tuple[dict[str, Any], dict[str, Any]]
"""A volume without its name, and its mount."""


def pod_volumes(spec: AgentTaskSpec, installation: Installation) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The volumes, and where they are mounted."""
    parts: list[tuple[str, Part]] = [
        ("workspace", (_workspace(spec.workspace), {"mountPath": c.WORKSPACE_PATH})),
        ("scratch", ({"emptyDir": {"sizeLimit": str(installation.task_defaults.scratch)}}, {"mountPath": c.SCRATCH_PATH})),
        ("document", (_document(), {"mountPath": c.DOCUMENT_DIR, "readOnly": True})),
        *((f"input-{index}", part) for index, part in enumerate(_inputs(spec.inputs))),
        *((f"{VOLUME_PREFIX}{index}", _volume(one)) for index, one in enumerate(spec.pod.volumes)),
    ]
    return [{"name": name, **source} for name, (source, _) in parts], [{"name": name, **mount} for name, (_, mount) in parts]


def _workspace(workspace: Workspace) -> dict[str, Any]:
    claim = workspace.persistent_volume_claim
    if claim is not None:
        return {"persistentVolumeClaim": {"claimName": claim.claim_name, "readOnly": False}}
    return {"emptyDir": {"sizeLimit": str(workspace.size_limit)}}


def _document() -> dict[str, Any]:
    item = {
        "path": c.DOCUMENT_PATH.removeprefix(f"{c.DOCUMENT_DIR}/"),
        "fieldRef": {"fieldPath": f"metadata.annotations['{c.ANNOTATION_DOCUMENT}']"},
    }
    return {"downwardAPI": {"items": [item]}}


def _inputs(inputs: tuple[Input, ...]) -> Iterator[Part]:
    for one in inputs:
        mount = {"mountPath": f"{c.INPUTS_PATH}/{one.name}", "readOnly": True}
        if one.persistent_volume_claim is not None:
            yield {"persistentVolumeClaim": {"claimName": one.persistent_volume_claim.claim_name, "readOnly": True}}, mount
        elif one.config_map is not None:
            yield {"configMap": {"name": one.config_map.name, "optional": False}}, mount


def _volume(one: PodVolume) -> Part:
    mount = {"mountPath": one.mount_path}
    if one.empty_dir is not None:
        return {"emptyDir": {"sizeLimit": str(one.empty_dir.size_limit)}}, mount
    if one.persistent_volume_claim is not None:
        claim = {"claimName": one.persistent_volume_claim.claim_name, "readOnly": one.read_only}
        return {"persistentVolumeClaim": claim}, mount | ({"readOnly": True} if one.read_only else {})
    if one.config_map is not None:
        return {"configMap": {"name": one.config_map.name, "optional": False}}, mount | {"readOnly": True}
    secret = one.secret.secret_name if one.secret is not None else ""
    return {"secret": {"secretName": secret, "optional": False}}, mount | {"readOnly": True}
