"""What running attempts tell of their models: open circuit breakers, and how many calls a task has in flight.

Each pod has a breaker of its own and sees its own calls only. Admission wants to know of the endpoint: a breaker counts as
open while at least half of the attempts that reported of the model lately say so, so that one pod whose own network is
broken, or that lies, does not stop a namespace. Nothing is kept beyond some minutes, and nothing survives a restart.
"""

from collections import OrderedDict
from collections.abc import Callable
from statistics import median
from typing import Final

from msgspec import Struct

from agenttask.api.gateway import FIRST_REPORT_SECONDS, ModelReport

FRESH_SECONDS: Final = 90.0
"""A report older than this says nothing about breakers; the rarest reports come once a minute."""
REMEMBERED_SECONDS: Final = 600.0
"""How long an attempt's calls count for the load of the next ones."""
RATED_SECONDS: Final = 30.0
"""An attempt that has told for less says nothing of requests a minute."""
REMEMBERED_ATTEMPTS: Final = 64
"""A model; the oldest goes first."""
LONGEST_OPEN_SECONDS: Final = 3600.0
"""AgentModel's own bound of `circuitBreaker.openSeconds`."""


class _Seen(Struct, frozen=True, kw_only=True):
    """One attempt's view of a model, by our own clock; `began` and `seconds_before` are of its first report."""

    at: float
    began: float
    seconds_before: float
    seconds: float
    open_until: float
    calls_before: int
    calls: int

    @property
    def in_flight(self) -> float:
        """Calls at once, on average: the seconds of calls in a second (Little's law)."""
        if self.at - self.began < FIRST_REPORT_SECONDS:
            return self.seconds / FIRST_REPORT_SECONDS
        return (self.seconds - self.seconds_before) / (self.at - self.began)


class ModelHealth:
    """The views of all attempts, by namespace and AgentModel, each by its task and the name that its steps have for the model."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._models: dict[tuple[str, str], OrderedDict[tuple[str, str], _Seen]] = {}

    def take(self, namespace: str, uid: str, report: ModelReport, model: str | None = None) -> None:
        """An attempt of this task told this of a model that its steps know by a name, which may be another AgentModel there."""
        now = self._clock()
        views = self._models.setdefault((namespace, model or report.name), OrderedDict())
        member = (uid, report.name)
        before = views.get(member)
        first = before is None or report.call_seconds < before.seconds  # a later attempt counts anew
        views[member] = _Seen(
            at=now,
            began=now if before is None or first else before.began,
            seconds_before=report.call_seconds if before is None or first else before.seconds_before,
            seconds=report.call_seconds,
            calls_before=report.calls if before is None or first else before.calls_before,
            calls=report.calls,
            open_until=now + min(report.breaker_open_seconds, LONGEST_OPEN_SECONDS) if report.breaker_open_seconds > 0 else 0.0,
        )
        views.move_to_end(member)
        while len(views) > REMEMBERED_ATTEMPTS or next(iter(views.values())).at < now - REMEMBERED_SECONDS:
            views.popitem(last=False)

    def open_until(self, namespace: str, model: str) -> float | None:
        """When the model's breakers close again (Unix seconds); None when they are closed."""
        now = self._clock()
        fresh = [view for view in self._views(namespace, model) if view.at >= now - FRESH_SECONDS]
        still_open = [view.open_until for view in fresh if view.open_until > now]
        return max(still_open) if still_open and 2 * len(still_open) >= len(fresh) else None

    def load(self, namespace: str, model: str) -> float | None:
        """Calls in flight per running task, the middle one of those that told; None when none has."""
        now = self._clock()
        told = [view.in_flight for view in self._views(namespace, model) if view.at >= now - REMEMBERED_SECONDS]
        return median(told) if told else None

    def requests(self, namespace: str, model: str) -> float | None:
        """Calls a minute per running task, the middle one of those that have told for a while; None when none has."""
        recent = self._clock() - REMEMBERED_SECONDS
        told = [
            60 * (view.calls - view.calls_before) / (view.at - view.began)
            for view in self._views(namespace, model)
            if view.at >= recent and view.at - view.began >= RATED_SECONDS
        ]
        return median(told) if told else None

    def _views(self, namespace: str, model: str) -> list[_Seen]:
        views = self._models.get((namespace, model))
        if views is None:
            return []
        if all(view.at < self._clock() - REMEMBERED_SECONDS for view in views.values()):
            del self._models[namespace, model]
            return []
        return list(views.values())
