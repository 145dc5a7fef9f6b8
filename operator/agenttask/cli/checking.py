"""Everything that can be said of files without a cluster: schema, the rules of tasks, models and queues, templates."""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from agenttask.api.constants import API_VERSION, MODEL_KIND, QUEUE_KIND, TASK_KIND
from agenttask.api.errors import AgentTaskError, InvalidTask
from agenttask.api.model import AgentModel
from agenttask.api.queue import AgentQueue
from agenttask.api.task import AgentTask
from agenttask.cli.manifests import InvalidFile, Manifest
from agenttask.cli.schemas import Schemas
from agenttask.domain.model_rules import check_model
from agenttask.domain.queue_rules import check_queue
from agenttask.domain.validation import validate


class Checked(Struct, frozen=True, kw_only=True):
    """What files hold, typed; the rest is objects of other kinds."""

    tasks: tuple[AgentTask, ...]
    models: tuple[AgentModel, ...]
    others: tuple[Manifest, ...]


def check(manifests: Sequence[Manifest], schemas: Schemas, *, step_kinds: Collection[str]) -> Checked:
    """The objects, when all of them are right.

    Raises:
        InvalidFile: with every problem that was found.
    """
    problems: list[str] = []
    tasks: list[AgentTask] = []
    models: list[AgentModel] = []
    others: list[Manifest] = []
    for manifest in manifests:
        found = [manifest.at(field, problem) for field, problem in _structure(manifest, schemas)]
        if manifest.kind not in schemas.kinds:
            others.append(manifest)
        elif not found:
            try:
                if manifest.kind == TASK_KIND:
                    task = _named(_convert(manifest.body, AgentTask), manifest)
                    validate(task.spec, step_kinds=step_kinds)
                    tasks.append(task)
                elif manifest.kind == MODEL_KIND:
                    model = _convert(manifest.body, AgentModel)
                    check_model(model.metadata.name, model.spec)
                    models.append(model)
                elif manifest.kind == QUEUE_KIND:
                    check_queue(_convert(manifest.body, AgentQueue).metadata.name or manifest.generate_name)
            except AgentTaskError as error:
                found.append(manifest.at("", str(error)))
        problems += found
    if problems:
        raise InvalidFile(problems)
    return Checked(tasks=tuple(tasks), models=tuple(models), others=tuple(others))


def _structure(manifest: Manifest, schemas: Schemas) -> Sequence[tuple[str, str]]:
    body = manifest.body
    if not manifest.kind or not body.get("apiVersion"):
        return [("", "apiVersion and kind are needed")]
    ours = str(body["apiVersion"]).startswith(API_VERSION.partition("/")[0])
    if manifest.kind not in schemas.kinds:
        return [("kind", f"{manifest.kind!r} is none of {', '.join(schemas.kinds)}")] if ours else []
    if body["apiVersion"] != API_VERSION:
        return [("apiVersion", f"{body['apiVersion']!r} is not {API_VERSION!r}")]
    if not manifest.name and not manifest.generate_name:
        return [("metadata.name", "is missing")]
    return list(schemas.problems(manifest.kind, body))


def _named(task: AgentTask, manifest: Manifest) -> AgentTask:
    """The task with a name in place of the one that the API server would make of `generateName`."""
    if task.metadata.name:
        return task
    metadata = msgspec.structs.replace(task.metadata, name=f"{manifest.generate_name}{manifest.document}")
    return msgspec.structs.replace(task, metadata=metadata)


def _convert(body: dict[str, Any], kind: type[Any]) -> Any:
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$.")
        raise InvalidTask(path.rstrip("`"), problem) from error
