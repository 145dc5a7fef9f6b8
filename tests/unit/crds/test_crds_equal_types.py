"""The CRDs and the `api` types are one contract: `agenttask validate` and the API server must agree."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.crds.schema_walk import COMPARED, SHAPE, differences, load, of_type, schema

from agenttask.api.model import AgentModelSpec
from agenttask.api.queue import AgentQueueSpec, AgentQueueStatus
from agenttask.api.record import AgentTaskRecord
from agenttask.api.task import AgentTaskSpec, AgentTaskStatus

TASK = load("agenttasks")
MODEL = load("agentmodels")
QUEUE = load("agentqueues")
RECORD = load("agenttaskrecords")


def test_the_task_spec_equals_its_type() -> None:
    assert differences(schema(TASK, "spec"), of_type(AgentTaskSpec), "spec") == []


def test_the_model_spec_equals_its_type() -> None:
    assert differences(schema(MODEL, "spec"), of_type(AgentModelSpec), "spec") == []


def test_the_queue_equals_its_types() -> None:
    assert differences(schema(QUEUE, "spec"), of_type(AgentQueueSpec), "spec") == []
    assert differences(schema(QUEUE, "status"), of_type(AgentQueueStatus), "status", SHAPE) == []


def test_the_record_equals_its_type() -> None:
    crd, wanted = copy.deepcopy(schema(RECORD)), of_type(AgentTaskRecord)
    for name in ("apiVersion", "kind", "metadata"):  # every object has them
        del crd["properties"][name]
        wanted["properties"].pop(name, None)
    wanted["required"].remove("metadata")
    assert differences(crd, wanted, "") == []


def test_the_task_status_has_the_shape_of_its_type() -> None:
    assert differences(schema(TASK, "status"), of_type(AgentTaskStatus), "status", SHAPE) == []


def _drop_field(spec: dict[str, Any]) -> None:
    del spec["properties"]["steps"]["items"]["properties"]["chat"]["properties"]["system"]


def _add_field(spec: dict[str, Any]) -> None:
    spec["properties"]["device"]["properties"]["tpu"] = {"type": "object"}


def _other_default(spec: dict[str, Any]) -> None:
    spec["properties"]["execution"]["properties"]["maxConcurrentSteps"]["default"] = 11


def _no_struct_default(spec: dict[str, Any]) -> None:
    del spec["properties"]["workspace"]["default"]


def _other_bound(spec: dict[str, Any]) -> None:
    spec["properties"]["steps"]["maxItems"] = 65


def _other_pattern(spec: dict[str, Any]) -> None:
    spec["properties"]["inputs"]["items"]["properties"]["name"]["pattern"] = "^.*$"


def _optional(spec: dict[str, Any]) -> None:
    spec["properties"]["steps"]["items"]["properties"]["write"]["required"] = ["path"]


def _map_value(spec: dict[str, Any]) -> None:
    spec["properties"]["params"]["additionalProperties"]["maxLength"] = 1


def _closed_with(spec: dict[str, Any]) -> None:
    del spec["properties"]["steps"]["items"]["properties"]["plugin"]["properties"]["with"]["x-kubernetes-preserve-unknown-fields"]


def _number_only(spec: dict[str, Any]) -> None:
    timeout = spec["properties"]["steps"]["items"]["properties"]["timeoutSeconds"]
    del timeout["x-kubernetes-int-or-string"]


def _unbounded_number(spec: dict[str, Any]) -> None:
    del spec["properties"]["workspace"]["properties"]["sizeLimit"]["maximum"]


def _closed_schema(spec: dict[str, Any]) -> None:
    chat = spec["properties"]["steps"]["items"]["properties"]["chat"]["properties"]
    del chat["responseSchema"]["x-kubernetes-preserve-unknown-fields"]


def _yes_or_no(spec: dict[str, Any]) -> None:
    spec["properties"]["steps"]["items"]["properties"]["continueOnError"]["type"] = "string"


@pytest.mark.parametrize(
    ("spoil", "path"),
    [
        pytest.param(_drop_field, "spec.steps[].chat.system: in the type only", id="missing field"),
        pytest.param(_add_field, "spec.device.tpu: in the CRD only", id="extra field"),
        pytest.param(_other_default, "spec.execution.maxConcurrentSteps: default is 11", id="default"),
        pytest.param(_no_struct_default, "spec.workspace: default is None", id="default of a struct"),
        pytest.param(_other_bound, "spec.steps: maxItems is 65", id="bound"),
        pytest.param(_other_pattern, "spec.inputs[].name: pattern", id="pattern"),
        pytest.param(_optional, "spec.steps[].write: required", id="required"),
        pytest.param(_map_value, "spec.params{}: maxLength", id="value of a map"),
        pytest.param(_number_only, "spec.steps[].timeoutSeconds: x-kubernetes-int-or-string is None", id="union"),
        pytest.param(_unbounded_number, "spec.workspace.sizeLimit: maximum is None", id="bound of one side of a union"),
        pytest.param(_closed_schema, "spec.steps[].chat.responseSchema: x-kubernetes-preserve", id="free-form object"),
        pytest.param(_yes_or_no, "spec.steps[].continueOnError: type is 'string'", id="boolean"),
        pytest.param(_closed_with, "spec.steps[].plugin.with: x-kubernetes-preserve", id="open object"),
    ],
)
def test_a_difference_is_named_with_its_path(spoil: Callable[[dict[str, Any]], None], path: str) -> None:
    spoilt = copy.deepcopy(schema(TASK, "spec"))
    spoil(spoilt)
    (found,) = differences(spoilt, of_type(AgentTaskSpec), "spec", COMPARED)
    assert found.startswith(path)
