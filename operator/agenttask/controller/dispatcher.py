"""Who has a turn: the line of waiting tasks, the turns that are taken, and what there is to be had, put together.

Every decision is made in one go, without waiting for anything, so drivers side by side cannot give the same slot twice: a
turn is taken when it is given, before its pod is made. What the last round left waiting did not fit; so a change marks
where somebody may fit now, and only there is looked again. Whoever gets a turn is woken, nobody else.

Nothing is given before `open`: a controller that starts anew first hears of every pod that lives.
"""

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct, structs

from agenttask.api.reasons import Reason
from agenttask.controller.admission import DeviceWish, Gate
from agenttask.controller.installation import Installation
from agenttask.controller.inventory import Inventory
from agenttask.controller.queues import Queues
from agenttask.controller.surroundings import Models
from agenttask.domain import room
from agenttask.domain.device_size import sized
from agenttask.domain.holdings import Holding, Holdings
from agenttask.domain.model_capacity import ModelHealth
from agenttask.domain.observation import Admission, Admitted, Refused, Waits
from agenttask.domain.queueing import Line, Wish

SHOWN_POSITIONS: Final = 32
_STARTING: Final = Waits(reason=Reason.QUEUE_FULL, message="the controller has just started and does not know all pods yet")
_SMALL: Final = 64
"""A line so short is counted anew each time."""
POSITIONS_SECONDS: Final = 15.0
"""Places in a long line are told so often: each is a write of status."""


class _Positions(Struct):
    """The first places of one queue as they were counted; tasks that were told another one are woken now and then."""

    counted: float
    told_at: float
    places: dict[str, int]


class Dispatcher:
    """Gives turns. `wake` has a task looked at; `clock` in Unix seconds; `max_running` of the installation, 0 is without a bound."""

    def __init__(
        self,
        *,
        queues: Queues,
        models: Models,
        inventory: Inventory,
        gate: Gate,
        installation: Installation,
        health: ModelHealth,
        max_running: int,
        wake: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._queues, self._models, self._inventory = queues, models, inventory
        self._gate, self._installation, self._health = gate, installation, health
        self._max_running, self._wake, self._clock = max_running, wake, clock
        self._line = Line(lambda namespace, queue: room.aging_seconds(queue, queues.of(namespace)))
        self._held = Holdings()
        self._given: dict[str, Admitted] = {}
        """Turns whose pod is not seen yet."""
        self._positions: dict[tuple[str, str], _Positions] = {}
        self._said: dict[str, tuple[Reason, int | None]] = {}
        """What each waiting task was last told: why it waits, and its place."""
        self._open = False
        self._deciding = False
        self._everywhere = False
        self._somewhere: set[str] = set()
        """Namespaces in which somebody may fit now."""

    @property
    def is_open(self) -> bool:
        """Whether turns are given: until then nobody knows how many are taken."""
        return self._open

    def open(self) -> None:
        """All pods and tasks are known: decide from now on."""
        self._open = self._everywhere = True
        self._decide()

    def ask(self, uid: str, wish: Wish, *, priority: int, since: float) -> Admission:
        """A task without a pod wants one: its turn, or why it waits. The turn is kept until `leave`."""
        given = self._given.get(uid)
        if given is not None:
            return given
        self._end(uid)  # the turn of an attempt that is over
        if self._line.put(uid, wish, priority=priority, since=since):
            self._somewhere.add(wish.namespace)
        self._decide(asking=uid)
        found = self._given.get(uid) or self._fits(wish)
        if isinstance(found, Admitted) and uid not in self._given:  # by time alone: a breaker has closed
            self._somewhere.add(wish.namespace)
            self._decide(asking=uid)
            found = self._given.get(uid) or self._fits(wish)
        match found:
            case Waits():
                position = self._position(uid, wish)
                self._said[uid] = (found.reason, position)
                return structs.replace(found, position=position)
            case Admitted() if uid not in self._given:
                return _STARTING
            case Refused():
                self._forget(uid)
        return found

    def hold(self, uid: str, class_: str, wish: Callable[[], Wish]) -> None:
        """The task has a pod that lives on this device class: it has its turn, whether we gave it or a controller before us."""
        self._given.pop(uid, None)
        held = self._held.get(uid)
        if held is None or held.class_ != class_:
            self._forget(uid)
            self._held.add(uid, Holding(wish=wish(), class_=class_))

    def leave(self, uid: str) -> None:
        """The task waits no more and its turn is over: it has ended, is held back, or lacks something else."""
        self._forget(uid)
        if self._end(uid):
            self._decide()

    def taken_classes(self, namespace: str, queue: str) -> Mapping[str, str]:
        """The device classes that the queue has enough of, each with the sentence for the task."""
        return room.taken_classes(Wish(namespace=namespace, queue=queue), self._held, self._queues.of(namespace))

    def queue_changed(self, namespace: str, queue: str) -> None:
        """A queue appeared, changed or went."""
        self._line.resort(namespace, queue)
        self._somewhere.add(namespace)
        self._decide()
        if self._open:
            self._tell((namespace, queue))

    def model_changed(self, namespace: str) -> None:
        """An AgentModel of the namespace did."""
        self._somewhere.add(namespace)
        self._decide()

    def devices_changed(self) -> None:
        """There may be more devices than before."""
        self._everywhere = True
        self._decide()

    def tick(self) -> None:
        """Time has passed: breakers close, loads change, the line has moved on."""
        if any(wish.models for wish in self._line.wishes()):
            self._everywhere = True
            self._decide()
        now = self._clock()
        for key, known in [*self._positions.items()]:
            if not self._line.pending(*key):
                del self._positions[key]
            elif now - known.told_at >= POSITIONS_SECONDS:
                self._tell(key)

    def counts(self, namespace: str, queue: str) -> tuple[int, int, float | None]:
        """Of a queue: turns that are taken, tasks that wait, since when the oldest does (Unix seconds)."""
        line = self._line
        return self._held.of_queue(namespace, queue), line.pending(namespace, queue), line.oldest(namespace, queue)

    def _decide(self, asking: str = "") -> None:
        if not self._open or self._deciding:
            return  # what is marked meanwhile is looked at by the round under way

        def grant(uid: str, wish: Wish, found: Admitted) -> None:
            self._grant(uid, wish, found)
            if uid != asking:
                self._wake(uid)

        self._deciding = True
        try:
            while self._everywhere or self._somewhere:
                namespaces = None if self._everywhere else self._somewhere
                self._everywhere, self._somewhere = False, set()
                self._line.admit(
                    namespaces,
                    fits=self._admits,
                    running=self._held.of_namespace,
                    grant=grant,
                    now=self._clock(),
                    full=self._full,
                )
        finally:
            self._deciding = False

    def _forget(self, uid: str) -> None:
        self._line.remove(uid)
        self._said.pop(uid, None)

    def _grant(self, uid: str, wish: Wish, found: Admitted) -> None:
        self._said.pop(uid, None)
        self._held.add(uid, Holding(wish=wish, class_=found.device.class_))
        self._given[uid] = found
        device = self._installation.device_class(found.device.class_)
        if device is not None and isinstance(wish.device, DeviceWish):
            self._inventory.reserve(uid, sized(device, wish.device.device.gpu).resources)

    def _end(self, uid: str) -> bool:
        """Take a turn back; whether there was one."""
        full = self._full()
        held = self._held.remove(uid)
        if held is None:
            return False
        self._given.pop(uid, None)
        self._everywhere |= full
        self._somewhere.add(held.wish.namespace)
        self._inventory.release(uid)
        return True

    def _full(self) -> bool:
        return 0 < self._max_running <= len(self._held)

    def _admits(self, wish: Wish) -> Admitted | None:
        found = self._fits(wish)
        return found if isinstance(found, Admitted) else None

    def _fits(self, wish: Wish) -> Admission:
        """What a task of this wish gets now."""
        queues = self._queues.of(wish.namespace)
        models = self._models.of(wish.namespace)
        waits = room.obstacle(
            wish,
            self._held,
            queues=queues,
            max_running=self._max_running,
            models=lambda name: seen.spec if (seen := models.get(name)) is not None else None,
            health=self._health,
            now=self._clock(),
        )
        if waits is not None:
            return waits
        if not isinstance(wish.device, DeviceWish):
            raise TypeError(f"a wish for a device is a DeviceWish, not {type(wish.device).__name__}")
        return self._gate.place(wish.device, self._inventory.stock(wish.device.device.gpu), room.taken_classes(wish, self._held, queues))

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

    def _tell(self, key: tuple[str, str]) -> None:
        """Have those of the first looked at who wait for something else than they were told, or at another place."""
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
