"""Which attempts use a model right now, and what each may ask of it: AgentModel's limits hold over all pods.

An attempt counts from the making of its pod and as long as it reports. One that was never heard of, because its image is
still being pulled or its task was done in a second, gives its share back after a minute and has it again with its first report.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from agenttask.api.gateway import Share
from agenttask.api.model import AgentModelSpec, Limits
from agenttask.domain.shares import share_of

SILENT_SECONDS: Final = 60.0
_MISSED_REPORTS: Final = 3
"""So many may be late before the attempt counts as gone."""
_NO_LIMITS: Final = Limits()


class Sharing:
    """The members of each model's circle, by namespace and model; until when they count (Unix seconds)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._circles: dict[tuple[str, str], dict[str, float]] = {}
        self._places: dict[str, set[tuple[str, str]]] = {}

    def first(self, namespace: str, uid: str, models: Mapping[str, AgentModelSpec]) -> dict[str, AgentModelSpec]:
        """The models as a new pod's document has them: with the share of one more in place of the whole."""
        until = self._clock() + SILENT_SECONDS
        shares = {name: self._share(namespace, name, uid, spec.limits, until) for name, spec in models.items()}
        return {name: msgspec.structs.replace(spec, limits=shares[name]) for name, spec in models.items()}

    def renew(self, namespace: str, uid: str, models: Iterable[tuple[str, AgentModelSpec]], *, next_report: float) -> dict[str, Share]:
        """The shares of an attempt that has reported and will do so again in `next_report` seconds; models without limits have none."""
        until = self._clock() + max(SILENT_SECONDS, _MISSED_REPORTS * next_report)
        shares = ((name, self._share(namespace, name, uid, spec.limits, until)) for name, spec in models)
        return {
            name: Share(
                concurrent_calls=one.concurrent_calls,
                requests_per_minute=one.requests_per_minute,
                tokens_per_minute=one.tokens_per_minute,
            )
            for name, one in shares
            if one != _NO_LIMITS
        }

    def leave(self, uid: str) -> None:
        """The task is final or gone: the others have more from their next reports on."""
        for place in self._places.pop(uid, ()):
            circle = self._circles.get(place, {})
            circle.pop(uid, None)
            if not circle:
                self._circles.pop(place, None)

    def _share(self, namespace: str, model: str, uid: str, limits: Limits, until: float) -> Limits:
        if limits == _NO_LIMITS:
            return limits
        now = self._clock()
        circle = self._circles.setdefault((namespace, model), {})
        circle[uid] = until
        self._places.setdefault(uid, set()).add((namespace, model))
        for silent in [member for member, end in circle.items() if end < now]:
            del circle[silent]
        return share_of(limits, uid, circle)
