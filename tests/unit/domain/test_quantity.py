"""A task cannot lift its limits by asking for nothing, nor ask for less than any container needs."""

from typing import Any

import pytest
from tests.fakes.seen import spec

from agenttask.api.errors import InvalidTask
from agenttask.domain.validation import validate


def pod(**resources: Any) -> dict[str, Any]:
    return {"pod": {"resources": resources}}


@pytest.mark.parametrize(
    ("fields", "field", "problem"),
    [
        pytest.param(pod(limits={"memory": "0"}), "limits.memory", "'0' would mean no limit at all", id="memory"),
        pytest.param(pod(limits={"memory": 0}), "limits.memory", "0 would mean no limit at all", id="memory as a whole number"),
        pytest.param(pod(limits={"cpu": "0.0"}), "limits.cpu", "'0.0' would mean no limit at all", id="cpu"),
        pytest.param(pod(limits={"ephemeral-storage": "0Gi"}), "limits.ephemeral-storage", "no limit at all", id="disk"),
        pytest.param({"workspace": {"sizeLimit": "0"}}, "spec.workspace.sizeLimit", "no limit at all", id="workspace"),
        pytest.param(pod(limits={"memory": "100m"}), "limits.memory", "for any container; give at least 32Mi", id="tiny"),
        pytest.param({"workspace": {"sizeLimit": 0}}, "spec.workspace.sizeLimit", "no limit at all", id="workspace as a whole number"),
        pytest.param(pod(limits={"memory": 1000000}), "limits.memory", "1000000 is too little for any container", id="tiny whole number"),
        pytest.param(
            pod(requests={"memory": 2147483648}, limits={"memory": "1Gi"}),
            "requests.memory",
            "2147483648 is more than the limit '1Gi'; raise the limit",
            id="request as a whole number over limit",
        ),
        pytest.param(
            pod(requests={"memory": "2Gi"}, limits={"memory": "1Gi"}),
            "requests.memory",
            "'2Gi' is more than the limit '1Gi'; raise the limit",
            id="request over limit",
        ),
    ],
)
def test_an_amount_that_cannot_be_meant_is_refused(fields: dict[str, Any], field: str, problem: str) -> None:
    with pytest.raises(InvalidTask, match=r"at least|no limit|more than") as refused:
        validate(spec(**fields), step_kinds=None)

    assert refused.value.field.endswith(field)
    assert problem in refused.value.problem


@pytest.mark.parametrize(
    "fields",
    [{}, pod(limits={"memory": "32Mi", "cpu": "1m"}), pod(requests={"cpu": "0"}), pod(requests={"memory": "1Ti"}), pod(limits={"cpu": 2})],
)
def test_any_other_amount_is_the_schedulers_affair(fields: dict[str, Any]) -> None:
    validate(spec(**fields), step_kinds=None)
