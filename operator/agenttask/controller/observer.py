"""The port through which the tracing of a task's life hangs on the controller; without it nothing is observed."""

from collections.abc import Mapping
from typing import Protocol

from agenttask.api.task import AgentTaskStatus
from agenttask.domain.observation import SeenPod, SeenTask


class TaskObserver(Protocol):
    """Told what a trace is made of; must be quick and must not raise."""

    def trace_id(self, task: SeenTask) -> str | None:
        """What `status.traceID` shows."""
        ...

    def environment_for(self, task: SeenTask, attempt: int, pod_name: str) -> Mapping[str, str]:
        """Plain variables for the attempt's pod; `verify` lets pass TRACEPARENT, TRACESTATE and `OTEL_*`."""
        ...

    def attempt_ended(self, task: SeenTask, status: AgentTaskStatus, pod: SeenPod | None) -> None:
        """The status was written that ends an attempt, and after it the task goes on."""
        ...

    def task_finished(self, task: SeenTask, status: AgentTaskStatus, pod: SeenPod | None) -> None:
        """The status that ends the task, and its last attempt, was written."""
        ...


class NoObserver:
    """Observes nothing."""

    def trace_id(self, task: SeenTask) -> str | None:  # noqa: ARG002 - a port's signature
        """There is no trace."""
        return None

    def environment_for(self, task: SeenTask, attempt: int, pod_name: str) -> Mapping[str, str]:  # noqa: ARG002
        """Nothing to add."""
        return {}

    def attempt_ended(self, task: SeenTask, status: AgentTaskStatus, pod: SeenPod | None) -> None:
        """Nobody wants to know."""

    def task_finished(self, task: SeenTask, status: AgentTaskStatus, pod: SeenPod | None) -> None:
        """Nobody wants to know."""
