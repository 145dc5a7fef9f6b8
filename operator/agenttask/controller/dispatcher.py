"""Who has a turn: the line of waiting tasks, the turns that are taken, and what there is to be had, put together.

Every decision is made in one go, without waiting for anything, so drivers side by side cannot give the same slot twice: a
turn is taken when it is given, before its pod is made. What the last round left waiting did not fit; so a change marks
where somebody may fit now, and only there is looked again. Whoever gets a turn is woken, nobody else.

Nothing is given before `open`: a controller that starts anew first hears of every pod that lives. What waiting tasks are told is
in waiting_notes.py, what quotas refuse in quota_gate.py, what a wish would get now in fitting.py.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Final

from msgspec import structs

from agenttask.api.reasons import Reason
from agenttask.controller.admission import DeviceWish, Gate
from agenttask.controller.fitting import Fitting
from agenttask.controller.installation import Installation
from agenttask.controller.inventory import Inventory
from agenttask.controller.queues import Queues
from agenttask.controller.quota_gate import QuotaGate
from agenttask.controller.surroundings import Models
from agenttask.controller.waiting_notes import WaitingNotes
from agenttask.domain import room
from agenttask.domain.device_size import sized
from agenttask.domain.holdings import Holding, Holdings
from agenttask.domain.model_capacity import ModelHealth
from agenttask.domain.observation import Admission, Admitted, Refused, Waits
from agenttask.domain.queueing import Line, Wish

_STARTING: Final = Waits(reason=Reason.QUEUE_FULL, message="the controller has just started and does not know all pods yet")
MOST_WISHES: Final = 64
"""In a namespace; every decision compares them. Tasks of yet other sizes wait together, as tasks of any size."""


class Dispatcher:
    """Gives turns. `wake` has a task looked at; `clock` in Unix seconds; `max_running` of the installation, 0 is without a bound."""

    def __init__(
        self,
        *,
        queues: Queues,
        models: Models,
        inventory: Inventory,
        gate: Gate,
        quota: QuotaGate,
        installation: Installation,
        health: ModelHealth,
        max_running: int,
        wake: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._inventory, self._quota, self._installation = inventory, quota, installation
        self._wake, self._clock = wake, clock
        self._line = Line(lambda namespace, queue: room.aging_seconds(queue, queues.of(namespace)))
        self._held = Holdings()
        self._fitting = Fitting(
            self._held,
            queues=queues,
            models=models,
            inventory=inventory,
            gate=gate,
            quota=quota,
            installation=installation,
            health=health,
            max_running=max_running,
            clock=clock,
        )
        self._given: dict[str, Admitted] = {}
        """Turns whose pod is not made yet, or not seen."""
        self._until: dict[str, float] = {}
        """Turns of tasks that are gone and whose pods live, and when those count as lost."""
        quota.freed = self._quota_freed
        self._notes = WaitingNotes(self._line, fits=self._fitting.fits, wake=wake, clock=clock)
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
        given, held = self._given.get(uid), self._held.get(uid)
        if given is not None and held is not None and not self._quota.outdated(uid, held.wish, held.class_, self._clock()):
            return given
        if self._line.crowded(wish, MOST_WISHES):
            wish = structs.replace(wish, pod=None)
        if self._line.put(uid, wish, priority=priority, since=since):
            self._somewhere.add(wish.namespace)
        self._end(uid)  # the turn of an attempt that is over, or of a refused one; it waits already, so no later one takes its place
        self._decide(asking=uid)
        found = self._given.get(uid) or self._fitting.fits(wish)
        if isinstance(found, Admitted) and uid not in self._given:  # by time alone: a breaker has closed
            self._somewhere.add(wish.namespace)
            self._decide(asking=uid)
            found = self._given.get(uid) or self._fitting.fits(wish)
        match found:
            case Waits():
                return structs.replace(found, position=self._notes.say(uid, wish, found.reason))
            case Admitted() if uid not in self._given:
                return _STARTING
            case Refused():
                self._forget(uid)
        return found

    def hold(self, uid: str, class_: str, wish: Callable[[], Wish]) -> None:
        """The task has a pod that lives on this device class: it has its turn, whether we gave it or a controller before us."""
        of_pod = self._until.pop(uid, None) is not None  # what we hold may be all that its pod told, and the task knows more
        self._keep(uid, class_, wish, anew=of_pod)

    def hold_until(self, uid: str, class_: str, wish: Callable[[], Wish], lost_at: float) -> bool:
        """The task is gone and has a pod that lives: its turn is over when that is gone too, or counts as lost. Whether it does not yet."""
        if self._clock() >= lost_at:
            self.leave(uid)
            return False
        self._keep(uid, class_, wish, anew=False)
        self._until[uid] = lost_at
        return True

    def leave(self, uid: str) -> None:
        """The task waits no more and its turn is over: it has ended, is held back, or lacks something else."""
        self._forget(uid)
        if self._end(uid):
            self._decide()

    def made(self, uid: str) -> None:
        """The API server took the pod of a task that has its turn."""
        self._given.pop(uid, None)
        held = self._held.get(uid)
        if held is not None and self._quota.made(uid, held.wish, self._clock()):
            self._somewhere.add(held.wish.namespace)
            self._decide()

    def refused(self, uid: str, message: str) -> None:
        """The API server refused it for now: the turn is outdated, and is taken back when the task asks again, as it does at once."""
        held = self._held.get(uid)
        if held is not None:
            self._quota.refused(uid, held.wish, held.class_, message, self._clock())

    def taken_classes(self, wish: Wish, class_: str = "") -> Mapping[str, str]:
        """The device classes that a task cannot go to now, each with the sentence for it; `class_` is where it is."""
        return self._fitting.taken_classes(wish, class_)

    def holders(self, namespace: str, model: str) -> Collection[str]:
        """The uids of the tasks that have a turn and call this AgentModel; fallbacks are not counted."""
        return self._held.callers(namespace, model)

    def queue_changed(self, namespace: str, queue: str) -> None:
        """A queue appeared, changed or went."""
        self._line.resort(namespace, queue)
        self._somewhere.add(namespace)
        self._decide()
        if self._open:
            self._notes.tell((namespace, queue))

    def model_changed(self, namespace: str) -> None:
        """An AgentModel of the namespace did."""
        self._somewhere.add(namespace)
        self._decide()

    def devices_changed(self) -> None:
        """There may be more devices than before."""
        self._everywhere = True
        self._decide()

    def tick(self) -> None:
        """A second has passed: breakers close, loads change, refused pods may be tried, the line has moved on."""
        now = self._clock()
        for uid, lost_at in [*self._until.items()]:
            if now >= lost_at:
                self._wake(uid)
        self._somewhere.update(self._quota.due(self._is_waited_in, now))
        self._everywhere |= any(wish.models for wish in self._line.wishes())
        self._decide()
        self._notes.tick()

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
                    full=self._fitting.full,
                )
        finally:
            self._deciding = False

    def _is_waited_in(self, namespace: str) -> bool:
        """Whether anybody waits in a namespace, in the line or for the answer to a POST."""
        if self._line.is_waited_in(namespace):
            return True
        return any((held := self._held.get(uid)) is not None and held.wish.namespace == namespace for uid in self._given)

    def _quota_freed(self, namespace: str) -> None:
        self._somewhere.add(namespace)
        self._decide()

    def _forget(self, uid: str) -> None:
        self._line.remove(uid)
        self._notes.forget(uid)

    def _grant(self, uid: str, wish: Wish, found: Admitted) -> None:
        self._notes.forget(uid)
        self._quota.grant(uid, wish, found.device.class_)
        self._held.add(uid, self._holding(wish, found.device.class_))
        self._given[uid] = found
        device = self._installation.device_class(found.device.class_)
        if device is not None and isinstance(wish.device, DeviceWish):
            self._inventory.reserve(uid, sized(device, wish.device.device.gpu).resources)

    def _keep(self, uid: str, class_: str, wish: Callable[[], Wish], *, anew: bool) -> None:
        if uid in self._given:  # its POST had no answer, and the pod is there all the same
            self.made(uid)
        held = self._held.get(uid)
        if anew or held is None or held.class_ != class_:
            self._forget(uid)
            self._held.add(uid, self._holding(wish(), class_))

    def _end(self, uid: str) -> bool:
        """Take a turn back, and mark who may fit; whether there was one."""
        full = self._fitting.full()
        held = self._held.remove(uid)
        if held is None:
            return False
        made = self._given.pop(uid, None) is None
        self._until.pop(uid, None)
        self._everywhere |= full
        self._somewhere.add(held.wish.namespace)
        deciding, self._deciding = self._deciding, True  # not before all of it is given back
        try:
            self._quota.leave(uid, held.wish, held.class_, made=made)
            self._inventory.release(uid)
        finally:
            self._deciding = deciding
        return True

    def _holding(self, wish: Wish, class_: str) -> Holding:
        return Holding(wish=wish, class_=class_, remote=class_ in self._fitting.remote)

    def _admits(self, wish: Wish) -> Admitted | None:
        found = self._fitting.fits(wish)
        return found if isinstance(found, Admitted) else None
