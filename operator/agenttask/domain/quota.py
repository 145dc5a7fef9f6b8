"""Quotas as the API server tells of them: it refuses a pod, and who asks for as much need not ask again before something changes.

A refusal closes its namespace to pods that would not fit into what the quota had left. What is left is reckoned on: a pod
that is made takes from it, one that ends gives back. Reckoning may err, for others use the quota too; so from time to time one pod is
tried all the same, and while tries succeed there are more of them at once (as TCP's slow start). Pods that would fit go on.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from decimal import Decimal
from typing import Final

from msgspec import Struct

WIDE: Final = 32
"""So many tries at once that succeed open the namespace: a quota is in nobody's way any more."""
MOST_SIZES: Final = 1024
"""Whose additions are remembered in a namespace; one that is forgotten is learned again by one refusal."""


class Asked(Struct, frozen=True, kw_only=True):
    """A pod as quotas count it.

    `scope` are the things besides amounts that a quota may choose pods by; pods of one `size` ask for the same, None is any size.
    """

    scope: Hashable = None
    size: Hashable = None
    amounts: Mapping[str, Decimal] = {}


class Refusal(Struct, frozen=True, kw_only=True):
    """What the API server said: the quota, what of it the pod asked for, and what was left; all empty where it was no quota."""

    message: str
    quota: str = ""
    requested: Mapping[str, Decimal] = {}
    left: Mapping[str, Decimal] = {}


class _Closed:
    """One quota that has refused a pod."""

    __slots__ = ("failures", "fitted", "late", "learned", "left", "message", "retry_at", "taken", "tries", "window")

    def __init__(self) -> None:
        self.message = ""
        self.left: dict[str, Decimal] = {}
        self.learned: dict[Hashable, dict[str, Decimal]] = {}
        """What pods of a size ask for besides what we know: a LimitRange or an overhead may add to it."""
        self.failures = 0
        self.retry_at = 0.0
        self.window = 0
        """Tries at once; 0: one, from `retry_at` on."""
        self.tries: set[str] = set()
        """Those under way, by their task."""
        self.fitted: set[str] = set()
        """Tasks that got their turn since the last refusal because they fit."""
        self.taken: dict[str, dict[str, Decimal]] = {}
        """What of `left` is for pods that are not made yet, by their task."""
        self.late = 0
        """How many of those were refused all the same: the quota learns later than we that a pod has ended."""

    def lacks(self, asked: Asked) -> bool:
        if not self.left or asked.size is None:
            return True
        return any(need > 0 and need > self.left[name] for name, need in self.needs(asked).items())

    def known(self, asked: Asked) -> dict[str, Decimal]:
        return {**asked.amounts, **self.learned.get(asked.size, {})}

    def needs(self, asked: Asked) -> dict[str, Decimal]:
        known = self.known(asked)
        return {name: known.get(name, Decimal(0)) for name in self.left}

    def learn(self, asked: Asked, refusal: Refusal, *, anew: bool) -> None:
        """Take what was said, which is only what this pod exceeds; `anew` forgets what others were told before."""
        self.message = refusal.message
        self.left = {**({} if anew else self.left), **refusal.left} if refusal.left else {}
        self.taken = {
            uid: {name: need for name, need in taken.items() if name in self.left and name not in refusal.left}
            for uid, taken in self.taken.items()
        }
        known = self.known(asked)
        more = {name: need for name, need in refusal.requested.items() if not _of_device(name) and known.get(name) != need}
        if more and asked.size is not None:
            self.learned[asked.size] = {**self.learned.pop(asked.size, {}), **more}
            if len(self.learned) > MOST_SIZES:
                del self.learned[next(iter(self.learned))]
        if not self.lacks(asked):
            self.left, self.taken = {}, {}  # somebody adds to pods what we cannot reckon on: without numbers it is tried now and then

    def stops(self, asked: Asked, now: float) -> bool:
        most = self.window or int(now >= self.retry_at)
        return len(self.tries) >= most and self.lacks(asked)


class Quotas:
    """What was refused, by namespace. `delay` gives the seconds before the next try after so many refusals in a row."""

    def __init__(self, delay: Callable[[int], float]) -> None:
        self._delay = delay
        self._closed: dict[str, dict[tuple[Hashable, str], _Closed]] = {}

    def __contains__(self, namespace: str) -> bool:
        return namespace in self._closed

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._closed))

    def obstacle(self, namespace: str, asked: Asked, now: float) -> str | None:
        """What the API server said when it last refused such a pod; None where one may be made now."""
        return next((one.message for one in self._of(namespace, asked) if one.stops(asked, now)), None)

    def grant(self, namespace: str, uid: str, asked: Asked) -> None:
        """A task that met no obstacle makes its pod."""
        for one in self._of(namespace, asked):
            if one.lacks(asked):
                one.tries.add(uid)
                continue
            one.fitted.add(uid)
            one.taken[uid] = one.needs(asked)
            for name, need in one.taken[uid].items():
                one.left[name] -= need

    def is_current(self, namespace: str, uid: str) -> bool:
        """Whether a task got its turn with all in view that has been refused until now."""
        return any(uid in one.tries or uid in one.fitted for one in self._closed.get(namespace, {}).values())

    def made(self, namespace: str, uid: str, now: float) -> bool:
        """The task's pod was taken; whether more may be tried now."""
        more = False
        for key, one in [*self._closed.get(namespace, {}).items()]:
            one.taken.pop(uid, None)
            if uid not in one.tries:
                continue
            one.tries.discard(uid)
            one.failures = 0
            if one.late:  # that was the room which we had reckoned on
                one.late -= 1
                one.window, one.retry_at = 0, now if one.late else now + self._delay(1)
            else:
                one.window = max(one.window, 1) + 1
            more |= one.window > 0 or one.late > 0
            if one.window > WIDE:
                self._drop(namespace, key)
        return more

    def refused(self, namespace: str, uid: str, asked: Asked, refusal: Refusal, now: float) -> None:
        """The task's pod was not."""
        one = self._closed.setdefault(namespace, {}).setdefault((asked.scope, refusal.quota), _Closed())
        late = uid in one.fitted and not one.left.keys().isdisjoint(refusal.left)
        one.late += late
        if one.window or now >= one.retry_at:
            one.failures += 1
            one.window, one.retry_at = 0, now + self._delay(one.failures)
        elif late:
            one.failures = 1
            one.retry_at = min(one.retry_at, now + self._delay(1))
        one.learn(asked, refusal, anew=uid in one.tries)
        one.fitted.clear()
        self.leave(namespace, uid)

    def leave(self, namespace: str, uid: str) -> None:
        """The task makes no pod after all."""
        for one in self._closed.get(namespace, {}).values():
            one.tries.discard(uid)
            one.fitted.discard(uid)
            for name, need in one.taken.pop(uid, {}).items():
                one.left[name] += need

    def freed(self, namespace: str, asked: Asked) -> None:
        """A pod has ended: what it took is there again, whatever it was that the quota chose it by."""
        for one in self._closed.get(namespace, {}).values():
            for name, need in one.needs(asked).items():
                one.left[name] += need

    def due(self, now: float) -> list[str]:
        """Namespaces in which it is time to try one."""
        return [
            namespace
            for namespace, closed in self._closed.items()
            if any(not one.window and not one.tries and now >= one.retry_at for one in closed.values())
        ]

    def forget(self, namespace: str) -> None:
        """Nobody waits there any more."""
        self._closed.pop(namespace, None)

    def _of(self, namespace: str, asked: Asked) -> list[_Closed]:
        return [one for (scope, _), one in self._closed.get(namespace, {}).items() if scope == asked.scope]

    def _drop(self, namespace: str, key: tuple[Hashable, str]) -> None:
        closed = self._closed[namespace]
        del closed[key]
        if not closed:
            del self._closed[namespace]


def _of_device(name: str) -> bool:
    """Whether it is an extended resource, which depends on the pod's device class and is known."""
    return "/" in name and not name.startswith("count/")
