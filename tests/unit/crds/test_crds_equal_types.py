"""The CRDs and the `api` types are one contract: `agenttask validate` and the API server must agree."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.crds.schema_walk import COMPARED, SHAPE, differences, load, of_type, schema

from agenttask.api.model import AgentModelSpec
from agenttask.api.task import AgentTaskSpec, AgentTaskStatus

TASK = load("agenttasks")
MODEL = load("agentmodels")


def test_the_task_spec_equals_its_type() -> None:
    assert differences(schema(TASK, "spec"), of_type(AgentTaskSpec), "spec") == []


def test_the_model_spec_equals_its_type() -> None:
    assert differences(schema(MODEL, "spec"), of_type(AgentModelSpec), "spec") == []


def test_the_task_status_has_the_shape_of_its_type() -> None:
    assert differences(schema(TASK, "status"), of_type(AgentTaskStatus), "status", SHAPE) == []


def _drop_field(spec: dict[str, Any]) -> None:
    del spec["properties"]["steps"]["items"]["properties"]["chat"]["properties"]["system"]


def _add_field(spec: dict[str, Any]) -> None:
    spec["properties"]["device"]["properties"]["gpu"] = {"type": "object"}


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


@pytest.mark.parametrize(
    ("spoil", "path"),
    [
        pytest.param(_drop_field, "spec.steps[].chat.system: in the type only", id="missing field"),
        pytest.param(_add_field, "spec.device.gpu: in the CRD only", id="extra field"),
        pytest.param(_other_default, "spec.execution.maxConcurrentSteps: default is 11", id="default"),
        pytest.param(_no_struct_default, "spec.workspace: default is None", id="default of a struct"),
        pytest.param(_other_bound, "spec.steps: maxItems is 65", id="bound"),
        pytest.param(_other_pattern, "spec.inputs[].name: pattern", id="pattern"),
        pytest.param(_optional, "spec.steps[].write: required", id="required"),
        pytest.param(_map_value, "spec.params{}: maxLength", id="value of a map"),
        pytest.param(_closed_with, "spec.steps[].plugin.with: x-kubernetes-preserve", id="open object"),
    ],
)
def test_a_difference_is_named_with_its_path(spoil: Callable[[dict[str, Any]], None], path: str) -> None:
    spoilt = copy.deepcopy(schema(TASK, "spec"))
    spoil(spoilt)
    (found,) = differences(spoilt, of_type(AgentTaskSpec), "spec", COMPARED)
    assert found.startswith(path)
