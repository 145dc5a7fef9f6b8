"""The line of waiting tasks: who is next when there is room.

Between namespaces the turn goes to the one that runs the fewest, and among equals to the one that was served longest ago.
Within a namespace it goes by effective priority (priority + waited / agingSeconds of the task's queue), then by waiting
time, then by uid. Whoever does not fit is passed over and blocks nobody.

Tasks that wish for the same are stopped by the same things, so they share a heap, and only the heads of heaps are
compared. Within a queue ageing changes no order (`since - priority * agingSeconds` is the same at all times), so a heap
is sorted anew only when a priority or the queue's `agingSeconds` changes.
"""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Final, TypeVar

from msgspec import Struct

MAX_SERVED: Final = 10_000
"""Namespaces whose last turn is remembered."""
_SLACK: Final = 64
Found = TypeVar("Found")
Place = tuple[float, float, str]
"""Sorts a heap: what ageing makes of the priority, since when the task waits, its uid."""


class Wish(Struct, frozen=True, kw_only=True):
    """What a task needs for its turn.

    `device` is whatever tells placements apart, `pod` whatever quotas count of its pod (None: any). `models` are names of
    AgentModels, `elsewhere` those of them that are another AgentModel on device classes of kind `remote`, each with that one;
    empty where the task goes to no such class.
    """

    namespace: str
    queue: str
    device: Hashable = None
    models: tuple[str, ...] = ()
    elsewhere: tuple[tuple[str, str], ...] = ()
    pod: Hashable = None

    @property
    def remote_models(self) -> tuple[str, ...]:
        """The AgentModels that it calls on a class of kind `remote`."""
        other = dict(self.elsewhere)
        return tuple(dict.fromkeys(other.get(name, name) for name in self.models))


class _Entry(Struct, frozen=True):
    wish: Wish
    priority: int
    place: Place


class _Group:
    """The tasks of one wish. Places of those that have left stay in the heap until they come up."""

    __slots__ = ("aging", "heap", "size", "wish")

    def __init__(self, wish: Wish, aging: int) -> None:
        self.wish, self.aging = wish, aging
        self.heap: list[Place] = []
        self.size = 0


class Line:
    """Waiting tasks by uid. `aging` tells a queue's agingSeconds by namespace and name."""

    def __init__(self, aging: Callable[[str, str], int]) -> None:
        self._aging = aging
        self._entries: dict[str, _Entry] = {}
        self._groups: dict[str, dict[Wish, _Group]] = {}
        """By namespace."""
        self._served: OrderedDict[str, int] = OrderedDict()
        self._turns = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, uid: str) -> bool:
        return uid in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._entries))

    def wish(self, uid: str) -> Wish | None:
        """What a waiting task wishes for."""
        entry = self._entries.get(uid)
        return entry.wish if entry is not None else None

    def put(self, uid: str, wish: Wish, *, priority: int, since: float) -> bool:
        """Queue a task, or move it to where its priority of now belongs; whether nobody else wishes the same."""
        known = self._entries.get(uid)
        if known is not None:
            if (known.wish, known.priority, known.place[1]) == (wish, priority, since):
                return False
            self.remove(uid)
        groups = self._groups.setdefault(wish.namespace, {})
        group = groups.get(wish)
        if group is None:
            group = groups[wish] = _Group(wish, self._aging(wish.namespace, wish.queue))
        place = (_rank(priority, since, group.aging), since, uid)
        self._entries[uid] = _Entry(group.wish, priority, place)
        heapq.heappush(group.heap, place)
        group.size += 1
        return group.size == 1

    def remove(self, uid: str) -> None:
        """The task waits no more."""
        entry = self._entries.pop(uid, None)
        if entry is None:
            return
        groups = self._groups[entry.wish.namespace]
        group = groups[entry.wish]
        group.size -= 1
        if group.size == 0:
            del groups[entry.wish]
            if not groups:
                del self._groups[entry.wish.namespace]
        elif len(group.heap) > 2 * group.size + _SLACK:
            group.heap = [place for place in group.heap if self._valid(place)]
            heapq.heapify(group.heap)

    def resort(self, namespace: str, queue: str) -> None:
        """The queue's agingSeconds may have changed."""
        aging = self._aging(namespace, queue)
        for group in self._of_queue(namespace, queue):
            if group.aging == aging:
                continue
            group.aging = aging
            members = [self._entries[place[2]] for place in group.heap if self._valid(place)]
            group.heap = []
            for entry in members:
                _, since, uid = entry.place
                place = (_rank(entry.priority, since, aging), since, uid)
                self._entries[uid] = _Entry(group.wish, entry.priority, place)
                group.heap.append(place)
            heapq.heapify(group.heap)

    def admit(
        self,
        namespaces: Iterable[str] | None,
        *,
        fits: Callable[[Wish], Found | None],
        running: Callable[[str], int],
        grant: Callable[[str, Wish, Found], None],
        now: float,
        full: Callable[[], bool] = lambda: False,
    ) -> None:
        """Give turns until nobody fits any more.

        Args:
            namespaces: those in which somebody may fit; None is all.
            fits: what a task of this wish gets now, or None; after a grant it may give less, never more.
            running: how many tasks of a namespace run.
            grant: takes it; whoever is granted has left the line.
            now: Unix seconds.
            full: whether nobody at all fits any more; saves asking everybody.
        """
        chosen = list(self._groups) if namespaces is None else [name for name in namespaces if name in self._groups]
        passed: set[Wish] = set()
        turns = [(running(name), self._served.get(name, 0), name) for name in chosen]
        heapq.heapify(turns)
        while turns and not full():
            name = turns[0][2]
            best = self._best(name, fits, passed, now)
            if best is None:
                heapq.heappop(turns)
                continue
            uid, wish, found = best
            self.remove(uid)
            grant(uid, wish, found)
            self._serve(name)
            heapq.heapreplace(turns, (running(name), self._served[name], name))

    def ahead(self, namespace: str, queue: str, count: int) -> list[str]:
        """The first tasks of a queue, in their order; whether they fit is not asked."""
        places = (place for group in self._of_queue(namespace, queue) for place in group.heap if self._valid(place))
        return [uid for _, _, uid in heapq.nsmallest(count, places)]

    def pending(self, namespace: str, queue: str) -> int:
        """How many wait in a queue."""
        return sum(group.size for group in self._of_queue(namespace, queue))

    def oldest(self, namespace: str, queue: str) -> float | None:
        """Since when the oldest of a queue waits (Unix seconds)."""
        places = (place for group in self._of_queue(namespace, queue) for place in group.heap if self._valid(place))
        return min((since for _, since, _ in places), default=None)

    def queues(self) -> set[tuple[str, str]]:
        """Those that somebody waits in, as namespace and name."""
        return {(namespace, wish.queue) for namespace, groups in self._groups.items() for wish in groups}

    def is_waited_in(self, namespace: str) -> bool:
        """Whether anybody waits in a namespace."""
        return namespace in self._groups

    def crowded(self, wish: Wish, most: int) -> bool:
        """Whether nobody wishes the same, and as many other things as may are wished for in its namespace."""
        groups = self._groups.get(wish.namespace, {})
        return len(groups) >= most and wish not in groups

    def wishes(self) -> Iterator[Wish]:
        """What is wished for."""
        return (wish for groups in self._groups.values() for wish in groups)

    def _of_queue(self, namespace: str, queue: str) -> list[_Group]:
        return [group for wish, group in self._groups.get(namespace, {}).items() if wish.queue == queue]

    def _best(self, namespace: str, fits: Callable[[Wish], Found | None], passed: set[Wish], now: float) -> tuple[str, Wish, Found] | None:
        """The first task of a namespace that fits."""
        heads = [(self._effective(group, now), group) for group in self._groups.get(namespace, {}).values() if group.wish not in passed]
        heads.sort(key=lambda head: head[0])
        for (_, _, uid), group in heads:
            found = fits(group.wish)
            if found is not None:
                return uid, group.wish, found
            passed.add(group.wish)
        return None

    def _effective(self, group: _Group, now: float) -> Place:
        """The group's head as it compares with those of other queues."""
        while not self._valid(group.heap[0]):
            heapq.heappop(group.heap)
        rank, since, uid = group.heap[0]
        return ((rank - now) / group.aging if group.aging else rank, since, uid)

    def _valid(self, place: Place) -> bool:
        entry = self._entries.get(place[2])
        return entry is not None and entry.place is place

    def _serve(self, namespace: str) -> None:
        self._turns += 1
        self._served[namespace] = self._turns
        self._served.move_to_end(namespace)
        if len(self._served) > MAX_SERVED:
            self._served.popitem(last=False)


def _rank(priority: int, since: float, aging: int) -> float:
    return since - priority * aging if aging else -float(priority)
