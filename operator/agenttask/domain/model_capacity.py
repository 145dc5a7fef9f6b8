"""How many tasks may run against an AgentModel at once, so that its limits hold and no task waits for calls that never come.

Every task gets a share of each limit, never less than one unit (domain/shares.py): so there are never more tasks than
units. Where tasks were seen to use more than one, there are fewer, by Little's law: the calls that a task has in flight
are its calls a second times the seconds of a call, and `concurrentCalls` serves so many tasks as it is a multiple of that.
Tokens are divided by the shares alone: nobody knows what an answer costs before it is there.
"""

import math
from typing import Protocol

from msgspec import Struct

from agenttask.api.model import Limits


class ModelHealth(Protocol):
    """What running attempts have told of their models."""

    def open_until(self, namespace: str, model: str) -> float | None:
        """When the model's circuit breakers close again (Unix seconds); None when they are closed."""
        ...

    def load(self, namespace: str, model: str) -> float | None:
        """Calls in flight per running task; None when no task has told."""
        ...


class NothingTold:
    """Where runners have no way to tell: breakers are closed, and nothing is known of the load."""

    def open_until(self, namespace: str, model: str) -> float | None:  # noqa: ARG002 - the port's signature
        """Closed."""
        return None

    def load(self, namespace: str, model: str) -> float | None:  # noqa: ARG002
        """Not known."""
        return None


class Capacity(Struct, frozen=True, kw_only=True):
    """How many tasks at once, and the sentence that says why."""

    tasks: int
    because: str


def capacity(limits: Limits, in_flight: float | None) -> Capacity | None:
    """What a model's limits serve; None when it has none that bound tasks. `in_flight` are calls per running task."""
    bounds: list[Capacity] = []
    if limits.concurrent_calls is not None:
        each = 1.0 if in_flight is None else max(1.0, in_flight)
        tasks = max(1, math.floor(limits.concurrent_calls / each))
        seen = "" if each <= 1 else f", and a task has {each:.1f} calls in flight"
        bounds.append(Capacity(tasks=tasks, because=f"limits.concurrentCalls is {limits.concurrent_calls}{seen}"))
    if limits.requests_per_minute is not None:
        tasks = limits.requests_per_minute
        bounds.append(Capacity(tasks=tasks, because=f"limits.requestsPerMinute is {tasks}"))
    return min(bounds, key=lambda one: one.tasks, default=None)
