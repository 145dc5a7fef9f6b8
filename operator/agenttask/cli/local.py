"""What a cluster would give to a task, given on this machine: inputs, workspace, models, secrets.

A task's paths keep their meaning: `/workspace` and `/inputs/<name>` are mapped to folders here. Only the argv of an
`exec` step is taken as it is: it should name files relative to the workspace, which is its working folder.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from agenttask.api.constants import ENV_CREDENTIAL_PREFIX, ENV_SECRET_PREFIX
from agenttask.api.document import DeviceDocument, ModelDocument, Policy, SecretVariable, TaskDocument, TaskRef
from agenttask.api.errors import InvalidTask
from agenttask.api.model import AgentModel, CaBundle, LocalModel
from agenttask.api.steps import SecretKeyRef
from agenttask.api.task import AgentTask, AgentTaskSpec, Input
from agenttask.cli.manifests import Manifest
from agenttask.domain.model_document import model_document
from agenttask.domain.model_names import models_named, models_of_step, with_fallbacks
from agenttask.domain.nearest import did_you_mean, listed
from agenttask.domain.secret_uses import secret_uses


class Given(Struct, frozen=True, kw_only=True):
    """What the files and the command line give to a task."""

    models: tuple[AgentModel, ...]
    others: tuple[Manifest, ...]
    folders: Mapping[str, Path]
    """`--input name=dir`."""
    credentials: Mapping[str, str]
    """Taken from this process's environment."""
    hosts: tuple[str, ...] = ()
    """`--allow-host`."""
    hub: bool = False
    """`--allow-hub`."""

    @property
    def claims(self) -> frozenset[str]:
        """The claims that hold weights of the models."""
        sources = (model.spec.local.persistent_volume_claim for model in self.models if model.spec.local is not None)
        return frozenset(source.claim_name for source in sources if source is not None)


class LocalTask(Struct, frozen=True, kw_only=True):
    """A document that can run here, with the folders of its inputs and the values of its credentials."""

    document: TaskDocument
    inputs: Mapping[str, Path]
    credentials: Mapping[str, str]


def prepare(task: AgentTask, given: Given, *, params: Mapping[str, str], scratch: Path, uid: str, created: str) -> LocalTask:
    """The task as a document.

    Args:
        task: a checked task.
        given: what there is for it.
        params: `--param key=value`, in place of the task's own.
        scratch: where ConfigMaps become folders.
        uid: of this run.
        created: of this run, RFC 3339.

    Raises:
        InvalidTask: something that the task needs is not given; the message says how to give it.
    """
    spec = _with_params(task.spec, params)
    values: dict[str, str] = {}
    named = models_named(spec)
    models = tuple(_model(name, field, given, values, scratch, named) for name, field in _model_names(spec, given))
    secrets = tuple(_secrets(spec, given, values))
    document = TaskDocument(
        task=TaskRef(name=task.metadata.name, namespace=task.metadata.namespace or "default", uid=uid, created=created),
        spec=spec,
        models=models,
        secrets=secrets,
        device=DeviceDocument(class_="local", kind="auto", strategy=spec.device.strategy),
        policy=Policy(hosts=given.hosts, hub=given.hub),
    )
    inputs = {each.name: _input(index, each, given, scratch) for index, each in enumerate(spec.inputs)}
    return LocalTask(document=document, inputs=inputs, credentials=values)


def _with_params(spec: AgentTaskSpec, params: Mapping[str, str]) -> AgentTaskSpec:
    return msgspec.structs.replace(spec, params={**spec.params, **params})


def _model_names(spec: AgentTaskSpec, given: Given) -> Sequence[tuple[str, str]]:
    """The models that steps name, and those that they fall back to, each once, with the field that names it first."""
    named: dict[str, str] = {}
    for index, step in enumerate(spec.steps):
        for name in models_of_step(step):
            named.setdefault(name, f"spec.steps[{index}].{'plugin.with' if step.plugin is not None else step.kind}.model")
    fallbacks = {model.metadata.name: model.spec.fallback for model in given.models}
    wanted = with_fallbacks(tuple(named), lambda name: fallbacks.get(name, ()))
    return [(name, f"AgentModel {of}: spec.fallback[{fallbacks[of].index(name)}]" if of else named[name]) for name, of in wanted.items()]


def _model(name: str, field: str, given: Given, values: dict[str, str], scratch: Path, named: Sequence[str]) -> ModelDocument:
    by_name = {model.metadata.name: model.spec for model in given.models}
    if name not in by_name:
        near = did_you_mean(name, by_name)
        raise InvalidTask(field, f"no AgentModel {name!r} is in the files; there are: {listed(by_name)}{near}; name a file that has it")
    spec = by_name[name]
    variable = None
    if spec.credentials is not None:
        variable = f"{ENV_CREDENTIAL_PREFIX}{len(values)}"
        values[variable] = _secret(spec.credentials.secret_key_ref, f"AgentModel {name}: spec.credentials.secretKeyRef", given)
    return model_document(
        name,
        spec,
        credential_env=variable,
        ca_file=None if spec.ca_bundle is None else _certificates(name, spec.ca_bundle, given, scratch),
        local=_weights(name, spec.local, given),
        fallback=spec.fallback if name in named else (),
    )


def _certificates(model: str, bundle: CaBundle, given: Given, scratch: Path) -> str:
    """A file with the certificates of a ConfigMap."""
    wanted = bundle.config_map_key_ref
    for manifest in given.others:
        if (manifest.kind, manifest.name) == ("ConfigMap", wanted.name):
            content = _content(manifest, text="data", binary="binaryData")
            if wanted.key in content:
                path = scratch / f"{model}-ca.crt"
                path.write_bytes(content[wanted.key])
                return str(path)
    field = f"AgentModel {model}: spec.caBundle"
    raise InvalidTask(field, f"ConfigMap {wanted.name!r} with key {wanted.key!r} is not in the files; add it")


def _weights(model: str, local: LocalModel | None, given: Given) -> LocalModel | None:
    """A claim is a folder here, given like an input."""
    if local is None or local.persistent_volume_claim is None:
        return local
    claim = local.persistent_volume_claim
    folder = given.folders.get(claim.claim_name)
    if folder is None:
        field = f"AgentModel {model}: spec.local.persistentVolumeClaim"
        raise InvalidTask(field, f"a PersistentVolumeClaim is not here; give --input {claim.claim_name}=DIR")
    return msgspec.structs.replace(local, persistent_volume_claim=None, path=str((folder / claim.path).resolve()))


def _secrets(spec: AgentTaskSpec, given: Given, values: dict[str, str]) -> Sequence[SecretVariable]:
    found = []
    for use in secret_uses(spec.steps):
        name = f"{ENV_SECRET_PREFIX}{len(values)}"
        values[name] = _secret(use.ref, use.field, given)
        found.append(SecretVariable(step=use.step, name=use.name, env=name))
    return found


def secret_variable(reference: SecretKeyRef) -> str:
    """The variable that holds a Secret's key on this machine."""
    return ENV_SECRET_PREFIX + re.sub(r"[^A-Z0-9]", "_", f"{reference.name}_{reference.key}".upper())


def _secret(reference: SecretKeyRef, field: str, given: Given) -> str:
    for manifest in given.others:
        if (manifest.kind, manifest.name) == ("Secret", reference.name):
            content = _content(manifest, text="stringData", binary="data")
            if reference.key in content:
                return content[reference.key].decode()
    variable = secret_variable(reference)
    if variable in given.credentials:
        return given.credentials[variable]
    raise InvalidTask(
        field, f"Secret {reference.name!r} with key {reference.key!r} is not in the files; add it, or set the variable {variable}"
    )


def _input(index: int, wanted: Input, given: Given, scratch: Path) -> Path:
    """The folder of an input; a ConfigMap of the files becomes one."""
    field = f"spec.inputs[{index}]"
    if wanted.name in given.folders:
        folder = given.folders[wanted.name]
        if not folder.is_dir():
            raise InvalidTask("--input", f"{str(folder)!r} is no folder")
        return folder
    if wanted.config_map is None:
        raise InvalidTask(field, f"a PersistentVolumeClaim is not here; give --input {wanted.name}=DIR")
    for manifest in given.others:
        if (manifest.kind, manifest.name) == ("ConfigMap", wanted.config_map.name):
            folder = scratch / "inputs" / wanted.name
            folder.mkdir(parents=True)
            for key, content in _content(manifest, text="data", binary="binaryData").items():
                if not re.fullmatch(r"[-._a-zA-Z0-9]+", key) or key in (".", ".."):
                    raise InvalidTask(manifest.at(f"data.{key}", ""), f"{key!r} is no key of a ConfigMap")
                (folder / key).write_bytes(content)
            return folder
    raise InvalidTask(field, f"ConfigMap {wanted.config_map.name!r} is not in the files; add it, or give --input {wanted.name}=DIR")


def _content(manifest: Manifest, *, text: str, binary: str) -> dict[str, bytes]:
    """What a ConfigMap or Secret holds, by key."""
    found: dict[str, bytes] = {}
    for field in (text, binary):
        entries: Any = manifest.body.get(field) or {}
        if not isinstance(entries, dict) or not all(isinstance(value, str) for value in entries.values()):
            raise InvalidTask("", manifest.at(field, "is a mapping of strings"))
        for key, value in entries.items():
            try:
                found[str(key)] = value.encode() if field == text else base64.b64decode(value, validate=True)
            except binascii.Error as error:
                raise InvalidTask("", manifest.at(f"{field}.{key}", f"is no base64: {error}")) from error
    return found
