"""AgentTaskRecord on a real API server: it stays with its task, an attempt that is over cannot write, and the largest one fits."""

import base64
import json
from typing import Any

import pytest
from tests.fakes.kubectl import Kubectl

from agenttask.api.gateway import MAX_RECORD_BYTES

pytestmark = pytest.mark.cluster


def record(**fields: Any) -> dict[str, Any]:
    """The record of attempt 2 of a task."""
    head = {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTaskRecord", "metadata": {"name": "case"}}
    return head | {"task": "t", "taskUID": "u", "attempt": 2} | fields


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        pytest.param({"task": "other"}, "task: Invalid value: task cannot be changed", id="task"),
        pytest.param({"taskUID": "other"}, "taskUID: Invalid value: taskUID cannot be changed", id="uid"),
        pytest.param({"attempt": 1}, "attempt: Invalid value: attempt is later than this one already, which is over", id="attempt"),
    ],
)
def test_what_a_record_is_of_cannot_be_changed(kubectl: Kubectl, change: dict[str, Any], refusal: str) -> None:
    kubectl.must("create", "-f", "-", stdin=record())
    done = kubectl("patch", "atr", "case", "--type=merge", "-p", json.dumps(change))
    assert done.returncode == 1
    assert refusal in done.stderr


def test_a_later_attempt_writes_on(kubectl: Kubectl) -> None:
    kubectl.must("create", "-f", "-", stdin=record(output="of the second"))
    kubectl.must("patch", "atr", "case", "--type=merge", "-p", json.dumps({"attempt": 3, "output": None}))
    kept = json.loads(kubectl.must("get", "atr", "case", "-o", "json"))
    assert (kept["attempt"], "output" in kept) == (3, False)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"output": "a" * MAX_RECORD_BYTES}, id="output"),
        pytest.param({"checkpoint": base64.b64encode(bytes(MAX_RECORD_BYTES)).decode()}, id="checkpoint"),
    ],
)
def test_the_largest_record_fits_the_store(kubectl: Kubectl, fields: dict[str, str]) -> None:
    kubectl.must("create", "-f", "-", stdin=record(**fields))
    (name,) = fields
    assert len(kubectl.must("get", "atr", "case", "-o", f"jsonpath={{.{name}}}")) == len(fields[name])
