"""Which attempts use a model right now, and what each may ask of it: AgentModel's limits hold over all pods.

An attempt counts from the turn that its task was given, and as long as it reports. One that is not heard of for a minute
after its pod was made, because its image is still being pulled, gives its share back and has it again with its first report.

What has been handed out is remembered: nobody's share grows before others have heard that theirs is smaller. So the shares
are more than the limit only by what newcomers begin with, until the others report.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Struct

from agenttask.api.gateway import Share
from agenttask.api.model import AgentModelSpec, Limits
from agenttask.controller.handover import HERE
from agenttask.domain.shares import grown, share_of

SILENT_SECONDS: Final = 60.0
_MISSED_REPORTS: Final = 3
"""So many may be late before the attempt counts as gone."""
_NO_LIMITS: Final = Limits()
Holders = Callable[[str, str], Iterable[str]]
"""The uids of the tasks that have a turn and name a model, by namespace and AgentModel."""


class _Seat(Struct):
    """One attempt's place in a circle: until when it counts (Unix seconds), and what it was told."""

    until: float
    told: Limits | None = None


class Sharing:
    """The members of each model's circle, by namespace and AgentModel; names that steps use may be `elsewhere`, as another one."""

    def __init__(self, clock: Callable[[], float], holders: Holders) -> None:
        self._clock, self._holders = clock, holders
        self._circles: dict[tuple[str, str], dict[str, _Seat]] = {}
        self._places: dict[str, set[tuple[str, str]]] = {}

    def first(
        self, namespace: str, uid: str, models: Mapping[str, AgentModelSpec], elsewhere: Mapping[str, str] = HERE
    ) -> dict[str, AgentModelSpec]:
        """The models as a new pod's document has them: with the share of one more in place of the whole."""
        until = self._clock() + SILENT_SECONDS
        shares = self._shares(namespace, uid, models, elsewhere, until, new=True)
        return {name: msgspec.structs.replace(spec, limits=shares[name]) for name, spec in models.items()}

    def renew(
        self,
        namespace: str,
        uid: str,
        models: Mapping[str, AgentModelSpec],
        elsewhere: Mapping[str, str] = HERE,
        *,
        next_report: float,
    ) -> dict[str, Share]:
        """The shares of an attempt that has reported and will do so again in `next_report` seconds; models without limits have none."""
        until = self._clock() + max(SILENT_SECONDS, _MISSED_REPORTS * next_report)
        shares = self._shares(namespace, uid, models, elsewhere, until, new=False)
        return {
            name: Share(
                concurrent_calls=one.concurrent_calls,
                requests_per_minute=one.requests_per_minute,
                tokens_per_minute=one.tokens_per_minute,
            )
            for name, one in shares.items()
            if one != _NO_LIMITS
        }

    def leave(self, uid: str) -> None:
        """The task is final or gone: the others have more from their next reports on."""
        for place in self._places.pop(uid, ()):
            circle = self._circles.get(place, {})
            circle.pop(uid, None)
            if not circle:
                self._circles.pop(place, None)

    def _shares(
        self,
        namespace: str,
        uid: str,
        models: Mapping[str, AgentModelSpec],
        elsewhere: Mapping[str, str],
        until: float,
        *,
        new: bool,
    ) -> dict[str, Limits]:
        """By the names that steps use; those that are one AgentModel divide the attempt's share of it."""
        names: dict[str, list[str]] = {}
        for name in models:
            names.setdefault(elsewhere.get(name, name), []).append(name)
        found: dict[str, Limits] = {}
        for model, same in names.items():
            whole = self._share((namespace, model), uid, models[same[0]].limits, until, new=new)
            found |= {name: share_of(whole, name, same) for name in same}
        return found

    def _share(self, place: tuple[str, str], uid: str, limits: Limits, until: float, *, new: bool) -> Limits:
        if limits == _NO_LIMITS:
            return limits
        now = self._clock()
        circle = self._circles.setdefault(place, {})
        seat = circle.setdefault(uid, _Seat(until))
        seat.until = until
        self._places.setdefault(uid, set()).add(place)
        heard = {member: one.told for member, one in circle.items() if one.until >= now}
        members = heard | {holder: None for holder in self._holders(*place) if holder not in circle}
        fair = share_of(limits, uid, members)
        if not new and seat.told is not None:
            others = (told or fair for member, told in members.items() if member != uid)
            fair = grown(seat.told, fair, limits, others)
        seat.told = fair
        return fair
