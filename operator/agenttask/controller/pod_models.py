"""What AgentModels bring into a task's pod: their documents, variables with credentials, mounted certificates and weights.

The runner needs no special case for where weights lie: a claim is mounted, and the document has the folder's path.
"""

from collections.abc import Collection, Mapping
from posixpath import join, normpath
from typing import Any

import msgspec
from msgspec import Struct

from agenttask.api import constants as c
from agenttask.api.document import ModelDocument
from agenttask.api.model import AgentModelSpec, LocalModel
from agenttask.api.steps import SecretKeyRef
from agenttask.domain.model_document import model_document


class SecretEnv(Struct, frozen=True, kw_only=True):
    """A container variable whose value the kubelet reads from a Secret."""

    name: str
    secret: SecretKeyRef


class PodModels(Struct, frozen=True, kw_only=True):
    """The parts of a pod that come from models."""

    documents: tuple[ModelDocument, ...]
    variables: tuple[SecretEnv, ...]
    volumes: tuple[dict[str, Any], ...]
    mounts: tuple[dict[str, Any], ...]


def pod_models(models: Mapping[str, AgentModelSpec], named: Collection[str]) -> PodModels:
    """The parts of these models; those that no step has `named` are there as fallbacks only, and have none themselves."""
    documents: list[ModelDocument] = []
    variables: list[SecretEnv] = []
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    for index, (name, model) in enumerate(models.items()):
        variable = None
        if model.credentials is not None:
            variable = f"{c.ENV_CREDENTIAL_PREFIX}{len(variables)}"
            variables.append(SecretEnv(name=variable, secret=model.credentials.secret_key_ref))
        for volume, source, path in _mounted(index, name, model):
            volumes.append({"name": volume, **source})
            mounts.append({"name": volume, "mountPath": path, "readOnly": True})
        documents.append(_document(name, model, variable, is_named=name in named))
    return PodModels(documents=tuple(documents), variables=tuple(variables), volumes=tuple(volumes), mounts=tuple(mounts))


def _mounted(index: int, name: str, model: AgentModelSpec) -> list[tuple[str, dict[str, Any], str]]:
    """Volume name, source and place of what a model needs in files; its own name may be too long for a volume's."""
    found: list[tuple[str, dict[str, Any], str]] = []
    if model.ca_bundle is not None:
        ref = model.ca_bundle.config_map_key_ref
        source = {"configMap": {"name": ref.name, "items": [{"key": ref.key, "path": c.CA_FILE}], "optional": False}}
        found.append((f"ca-{index}", source, f"{c.CA_DIR}/{name}"))
    if model.local is not None and model.local.persistent_volume_claim is not None:
        claim = {"claimName": model.local.persistent_volume_claim.claim_name, "readOnly": True}
        found.append((f"model-{index}", {"persistentVolumeClaim": claim}, f"{c.MODELS_PATH}/{name}"))
    return found


def _document(name: str, model: AgentModelSpec, credential: str | None, *, is_named: bool) -> ModelDocument:
    return model_document(
        name,
        model,
        credential_env=credential,
        ca_file=f"{c.CA_DIR}/{name}/{c.CA_FILE}" if model.ca_bundle is not None else None,
        local=_local(name, model.local),
        fallback=model.fallback if is_named else (),
    )


def _local(name: str, local: LocalModel | None) -> LocalModel | None:
    """A claim's weights as the folder in the pod where they are mounted, without what only the controller reads."""
    if local is None:
        return None
    if local.remote_model is not None:
        local = msgspec.structs.replace(local, remote_model=None)
    if local.persistent_volume_claim is None:
        return local
    folder = normpath(join(c.MODELS_PATH, name, local.persistent_volume_claim.path))
    return msgspec.structs.replace(local, persistent_volume_claim=None, path=folder)
