"""What waiting tasks were last told, and who is to be told anew: why they wait, and where the first ones stand.

Whoever is told costs a write of status, of which there are few a second. So the first of each queue are looked at every
few seconds, and those behind them in rounds.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from msgspec import Struct

from agenttask.api.reasons import Reason
from agenttask.domain.observation import Admission, Waits
from agenttask.domain.queueing import Line, Wish

SHOWN_POSITIONS: Final = 32
POSITIONS_SECONDS: Final = 15.0
"""Places in a long line are told so often: each is a write of status."""
ROUND: Final = 200
"""So many of those behind are looked at each second: of ten thousand each one every 50 s."""
WOKEN: Final = 8
"""At most, of those: status is written no faster by default."""
_SMALL: Final = 64
"""A line so short is counted anew each time."""


class _Positions(Struct):
    """The first places of one queue as they were counted; tasks that were told another one are woken now and then."""

    counted: float
    told_at: float
    places: dict[str, int]


class WaitingNotes:
    """`fits` tells what a task of a wish gets now, `wake` has one looked at; `clock` in Unix seconds."""

    def __init__(self, line: Line, *, fits: Callable[[Wish], Admission], wake: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._line, self._fits, self._wake, self._clock = line, fits, wake, clock
        self._positions: dict[tuple[str, str], _Positions] = {}
        self._said: dict[str, tuple[Reason, int | None]] = {}
        """What each waiting task was last told."""
        self._round: Iterator[str] = iter(())

    def say(self, uid: str, wish: Wish, reason: Reason) -> int | None:
        """The task is told this reason, and its place, which is the answer."""
        position = self._position(uid, wish)
        self._said[uid] = (reason, position)
        return position

    def forget(self, uid: str) -> None:
        """The task waits no more."""
        self._said.pop(uid, None)

    def tick(self) -> None:
        """A second has passed."""
        now = self._clock()
        for key, known in [*self._positions.items()]:
            if not self._line.pending(*key):
                del self._positions[key]
            elif now - known.told_at >= POSITIONS_SECONDS:
                self.tell(key)
        self._look_around()

    def tell(self, key: tuple[str, str]) -> None:
        """Have those of a queue's first looked at who wait for something else than they were told, or at another place."""
        now = self._clock()
        before = self._positions[key].places if key in self._positions else {}
        places = self._count(key, now)
        self._positions[key].told_at = now
        for uid in {**places, **before}:
            wish, said = self._line.wish(uid), self._said.get(uid)
            if wish is None or said is None:
                continue
            found = self._fits(wish)
            if not isinstance(found, Waits) or (found.reason, places.get(uid)) != said:
                self._wake(uid)

    def _look_around(self) -> None:
        """Have some looked at who wait for something else than they were told, wherever they stand."""
        reasons: dict[Wish, Reason | None] = {}
        looked, woken = 0, 0
        for uid in islice(self._round, ROUND):
            looked += 1
            wish, said = self._line.wish(uid), self._said.get(uid)
            if wish is None or said is None:
                continue
            if wish not in reasons:
                found = self._fits(wish)
                reasons[wish] = found.reason if isinstance(found, Waits) else None
            if reasons[wish] is not None and reasons[wish] is not said[0]:
                self._wake(uid)
                woken += 1
                if woken == WOKEN:
                    return
        if looked < ROUND:
            self._round = iter([*self._said])

    def _position(self, uid: str, wish: Wish) -> int | None:
        key, now = (wish.namespace, wish.queue), self._clock()
        known = self._positions.get(key)
        if known is None or now - known.counted >= POSITIONS_SECONDS or self._line.pending(*key) <= _SMALL:
            self._count(key, now)
        return self._positions[key].places.get(uid)

    def _count(self, key: tuple[str, str], now: float) -> dict[str, int]:
        places = {uid: place for place, uid in enumerate(self._line.ahead(*key, SHOWN_POSITIONS), 1)}
        known = self._positions.setdefault(key, _Positions(counted=now, told_at=now, places=places))
        known.counted, known.places = now, places
        return places
