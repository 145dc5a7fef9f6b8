"""How many tasks may run against an AgentModel at once, so that its limits hold and no task waits for calls that never come.

Every task gets a share of each limit, never less than one unit (domain/shares.py): so there are never more tasks than
units. Where tasks were seen to use more than one, there are fewer, by Little's law: the calls that a task has in flight
are its calls a second times the seconds of a call, and `concurrentCalls` serves so many tasks as it is a multiple of that;
`requestsPerMinute` likewise by the calls that a task makes in a minute. Tokens are divided by the shares alone: nobody
knows what an answer costs before it is there.
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

    def requests(self, namespace: str, model: str) -> float | None:
        """Calls a minute per running task; None when no task has told."""
        ...


class NothingTold:
    """Where runners have no way to tell: breakers are closed, and nothing is known of the load."""

    def open_until(self, namespace: str, model: str) -> float | None:  # noqa: ARG002 - the port's signature
        """Closed."""
        return None

    def load(self, namespace: str, model: str) -> float | None:  # noqa: ARG002
        """Not known."""
        return None

    def requests(self, namespace: str, model: str) -> float | None:  # noqa: ARG002
        """Not known."""
        return None


class Capacity(Struct, frozen=True, kw_only=True):
    """How many tasks at once, and the sentence that says why."""

    tasks: int
    because: str


def capacity(limits: Limits, *, in_flight: float | None, requests: float | None) -> Capacity | None:
    """What a model's limits serve; None when it has none that bound tasks. The others are what a running task uses of it."""
    bounds = [
        _served("concurrentCalls", limits.concurrent_calls, in_flight, "calls in flight"),
        _served("requestsPerMinute", limits.requests_per_minute, requests, "calls a minute"),
    ]
    return min((one for one in bounds if one is not None), key=lambda one: one.tasks, default=None)


def _served(field: str, limit: int | None, each: float | None, what: str) -> Capacity | None:
    if limit is None:
        return None
    if each is None or each <= 1:
        return Capacity(tasks=limit, because=f"limits.{field} is {limit}")
    return Capacity(tasks=max(1, math.floor(limit / each)), because=f"limits.{field} is {limit}, and a task has {each:.1f} {what}")
