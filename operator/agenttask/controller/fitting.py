"""What a wish would get now: a device class, or what is in the way of the queue, the models, the quotas and the devices."""

from collections.abc import Callable, Mapping

from msgspec import structs

from agenttask.api.model import AgentModelSpec
from agenttask.controller.admission import DeviceWish, Gate
from agenttask.controller.installation import Installation
from agenttask.controller.inventory import Inventory
from agenttask.controller.queues import Queues
from agenttask.controller.quota_gate import QuotaGate
from agenttask.controller.remote_models import REMOTE
from agenttask.controller.surroundings import Models
from agenttask.domain import room
from agenttask.domain.holdings import Holdings
from agenttask.domain.model_capacity import ModelHealth
from agenttask.domain.observation import Admission, Waits
from agenttask.domain.queueing import Wish


class Fitting:
    """Says what is left beside the turns in `held`, and takes none. `clock` in Unix seconds; `max_running` 0 is without a bound."""

    def __init__(
        self,
        held: Holdings,
        *,
        queues: Queues,
        models: Models,
        inventory: Inventory,
        gate: Gate,
        quota: QuotaGate,
        installation: Installation,
        health: ModelHealth,
        max_running: int,
        clock: Callable[[], float],
    ) -> None:
        self._held, self._queues, self._models, self._inventory = held, queues, models, inventory
        self._gate, self._quota, self._health = gate, quota, health
        self._classes = tuple(one.name for one in installation.device_classes)
        self.remote = frozenset(one.name for one in installation.device_classes if one.kind == REMOTE)
        """The device classes on which a task calls other models than elsewhere."""
        self._max_running, self._clock = max_running, clock

    def full(self) -> bool:
        """Whether the installation runs as many tasks as it may."""
        return 0 < self._max_running <= len(self._held)

    def fits(self, wish: Wish) -> Admission:
        """What a task of this wish gets."""
        here = self._obstacle(wish)
        there = self._obstacle(_there(wish)) if wish.elsewhere else here
        if here is not None and there is not None:
            return here
        if not isinstance(wish.device, DeviceWish):
            raise TypeError(f"a wish for a device is a DeviceWish, not {type(wish.device).__name__}")
        refused = self._quota.obstacle(wish, self._clock())
        if isinstance(refused, Waits):
            return refused
        full = {**self._taken(wish), **refused}
        if here is not there:  # its models stand in the way on some classes only
            classes = ((name, there if name in self.remote else here) for name in self._classes)
            full = {name: waits.message for name, waits in classes if waits is not None} | full
        return self._gate.place(wish.device, self._inventory.stock(wish.device.device.gpu), full)

    def taken_classes(self, wish: Wish, class_: str = "") -> Mapping[str, str]:
        """The device classes that a task cannot go to now, each with the sentence for it; `class_` is where it is.

        Its queue or a quota has no room on them, or the endpoints that it would call there are full, or fail.
        """
        quota = self._quota.obstacle(wish, self._clock())
        closed = {**self._taken(wish), **({} if isinstance(quota, Waits) else quota)}
        if not wish.elsewhere or class_ in self.remote:
            return closed
        there = room.model_obstacle(_there(wish), self._held, models=self._spec_of(wish), health=self._health, now=self._clock())
        return closed if there is None else dict.fromkeys(self.remote, there.message) | closed

    def _taken(self, wish: Wish) -> Mapping[str, str]:
        return room.taken_classes(wish, self._held, self._queues.of(wish.namespace))

    def _obstacle(self, wish: Wish) -> Waits | None:
        return room.obstacle(
            wish,
            self._held,
            queues=self._queues.of(wish.namespace),
            max_running=self._max_running,
            models=self._spec_of(wish),
            health=self._health,
            now=self._clock(),
        )

    def _spec_of(self, wish: Wish) -> Callable[[str], AgentModelSpec | None]:
        models = self._models.of(wish.namespace)
        return lambda name: seen.spec if (seen := models.get(name)) is not None else None


def _there(wish: Wish) -> Wish:
    """The wish as it is on a class of kind `remote`."""
    return structs.replace(wish, models=wish.remote_models, elsewhere=())
