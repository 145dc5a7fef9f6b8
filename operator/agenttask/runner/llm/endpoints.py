"""What all calls of a process share, whichever task they belong to: an endpoint's breaker, and a model's limits.

One object a process, handed to every run: many tasks in one process are still one client to the endpoint.
"""

import time
from collections.abc import Callable
from typing import Any

from agenttask.api.document import ModelDocument
from agenttask.runner.llm.breaker import Breaker
from agenttask.runner.llm.limiting import ModelLimits


class Endpoints:
    """Breakers and limits by what they are about. `log` takes what a line is about and what happened."""

    def __init__(self, *, log: Callable[[str, str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._breakers: dict[Any, Breaker] = {}
        self._limits: dict[Any, ModelLimits] = {}

    def breaker(self, model: ModelDocument) -> Breaker:
        """The breaker of a model at its endpoint; AgentModels that set it otherwise have their own."""
        key = (*_place(model), model.circuit_breaker)
        if key not in self._breakers:
            name = model.name
            self._breakers[key] = Breaker(
                model.circuit_breaker, clock=self._clock, changed=lambda what: self._log(f"model {name}", f"circuit breaker {what}")
            )
        return self._breakers[key]

    def limits(self, model: ModelDocument) -> ModelLimits:
        """The limits of an AgentModel."""
        key = (model.name, *_place(model), model.limits)
        if key not in self._limits:
            self._limits[key] = ModelLimits(model.limits, clock=self._clock)
        return self._limits[key]


def _place(model: ModelDocument) -> tuple[str, str, str]:
    """The model where it is; what has no endpoint is told apart by its own name."""
    return model.client, model.model, model.endpoint or f"agentmodel:{model.name}"
