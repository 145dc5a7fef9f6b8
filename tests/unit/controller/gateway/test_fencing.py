"""Only the current attempt of a task that is not final may speak, and a late view asks for patience instead of refusing for good."""

import pytest
from tests.fakes.seen import UID, ended, pod, running, task

from agenttask.api.gateway import TokenClaims
from agenttask.api.reasons import Phase
from agenttask.api.task import AgentTaskStatus
from agenttask.controller.gateway.fencing import Standing, standing
from agenttask.domain.observation import SeenPod, SeenTask


def claims(attempt: int = 2, **fields: str) -> TokenClaims:
    named = {"namespace": "agents", "task": "review", "uid": UID} | fields
    return TokenClaims(attempt=attempt, expires=0, **named)


SECOND = task(AgentTaskStatus(phase=Phase.RUNNING, attempt=2, ended_attempts=1))


@pytest.mark.parametrize(
    ("asked", "seen", "its_pod", "expected"),
    [
        pytest.param(claims(), SECOND, running(), Standing.CURRENT, id="runs"),
        pytest.param(claims(), SECOND, pod(), Standing.CURRENT, id="the watch is late with its start"),
        pytest.param(claims(), SECOND, None, Standing.CURRENT, id="the watch is late with its pod"),
        pytest.param(claims(), SECOND, running(deletion=9.0), Standing.CURRENT, id="being stopped, leaves its checkpoint"),
        pytest.param(claims(1), task(), None, Standing.CURRENT, id="first attempt, no status yet"),
        pytest.param(claims(1), SECOND, running(), Standing.OVER, id="earlier attempt"),
        pytest.param(claims(3), SECOND, None, Standing.UNKNOWN, id="later than our view"),
        pytest.param(claims(), SECOND, ended(), Standing.OVER, id="its pod has ended"),
        pytest.param(claims(), SECOND, running(gone=True), Standing.OVER, id="its pod is gone"),
        pytest.param(claims(), None, running(), Standing.OVER, id="no such task"),
        pytest.param(claims(task="other"), SECOND, None, Standing.OVER, id="another task's name"),
        pytest.param(claims(namespace="other"), SECOND, None, Standing.OVER, id="another namespace"),
        pytest.param(claims(1), task(deleting=True), None, Standing.OVER, id="task being deleted"),
        pytest.param(claims(1), task(AgentTaskStatus(phase=Phase.FAILED)), None, Standing.OVER, id="task is final"),
    ],
)
def test_who_may_speak(asked: TokenClaims, seen: SeenTask | None, its_pod: SeenPod | None, expected: Standing) -> None:
    assert standing(asked, seen, its_pod) is expected
