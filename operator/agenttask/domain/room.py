"""What stands in the way of a task's turn, besides devices: its queue, the installation's cap, its models. Pure.

The first obstacle is the one that is told, and those that a person must remove come first.
"""

from collections.abc import Callable, Collection, Mapping

from msgspec import Struct

from agenttask.api.model import AgentModelSpec
from agenttask.api.queue import DEFAULT_QUEUE, AgentQueueSpec
from agenttask.api.reasons import Reason
from agenttask.domain.holdings import Holdings
from agenttask.domain.model_capacity import Capacity, ModelHealth, capacity
from agenttask.domain.nearest import did_you_mean, listed, quoted
from agenttask.domain.observation import Waits
from agenttask.domain.queueing import Wish

UNLIMITED = AgentQueueSpec()


class SeenQueue(Struct, frozen=True, kw_only=True):
    """An AgentQueue of the cache; `spec` is None when it cannot be read."""

    spec: AgentQueueSpec | None
    problem: str = ""


def queue_of(name: str, queues: Mapping[str, SeenQueue]) -> SeenQueue | None:
    """A queue of a namespace; `default` is there without being there."""
    return queues.get(name, SeenQueue(spec=UNLIMITED) if name == DEFAULT_QUEUE else None)


def aging_seconds(name: str, queues: Mapping[str, SeenQueue]) -> int:
    """What waiting counts in a queue; one that is not there has the default."""
    seen = queue_of(name, queues)
    return (seen.spec or UNLIMITED).aging_seconds if seen is not None else UNLIMITED.aging_seconds


def obstacle(
    wish: Wish,
    held: Holdings,
    *,
    queues: Mapping[str, SeenQueue],
    max_running: int,
    models: Callable[[str], AgentModelSpec | None],
    health: ModelHealth,
    now: float,
) -> Waits | None:
    """Why a task of this wish cannot have its turn; None when only devices may still be missing.

    Args:
        wish: the task's.
        held: the turns that are taken.
        queues: those of the task's namespace.
        max_running: of the installation; 0 is without a bound.
        models: an AgentModel of the namespace, by its name.
        health: what runners tell of models.
        now: Unix seconds.
    """
    seen = queue_of(wish.queue, queues)
    if seen is None:
        problem = f"no AgentQueue {quoted(wish.queue)}; namespace {wish.namespace} has: {_others(wish.queue, queues)}"
        return Waits(reason=Reason.UNKNOWN_QUEUE, message=problem)
    if seen.spec is None:
        return Waits(reason=Reason.UNKNOWN_QUEUE, message=f"AgentQueue {quoted(wish.queue)} cannot be read: {seen.problem}")
    if seen.spec.paused:
        return Waits(reason=Reason.QUEUE_PAUSED, message=f"AgentQueue {quoted(wish.queue)} is paused; set spec.paused to false")
    opened = _breaker(wish, models, health, now)
    if opened is not None:
        return opened
    running = held.of_queue(wish.namespace, wish.queue)
    if seen.spec.concurrency is not None and running >= seen.spec.concurrency:
        message = f"AgentQueue {quoted(wish.queue)} runs {running} tasks, its concurrency is {seen.spec.concurrency}"
        return Waits(reason=Reason.QUEUE_FULL, message=message)
    if max_running and len(held) >= max_running:
        message = f"the installation runs {len(held)} tasks, its maxRunningTasks is {max_running}"
        return Waits(reason=Reason.QUEUE_FULL, message=message)
    return _full_model(wish, held, models, health)


def model_obstacle(
    wish: Wish, held: Holdings, *, models: Callable[[str], AgentModelSpec | None], health: ModelHealth, now: float
) -> Waits | None:
    """Why a task that has its turn could not call its models; the arguments are those of `obstacle`."""
    return _breaker(wish, models, health, now) or _full_model(wish, held, models, health)


def taken_classes(wish: Wish, held: Holdings, queues: Mapping[str, SeenQueue]) -> dict[str, str]:
    """The device classes of which the queue has all that it may, each with the sentence for the task."""
    seen = queue_of(wish.queue, queues)
    limits = seen.spec.devices if seen is not None and seen.spec is not None else {}
    return {
        name: f"AgentQueue {quoted(wish.queue)} has {running} tasks on it, its devices.{name} is {most}"
        for name, most in limits.items()
        if (running := held.of_class(wish.namespace, wish.queue, name)) >= most
    }


def _others(name: str, queues: Collection[str]) -> str:
    return f"{listed(queues)}{did_you_mean(name, queues)}"


def _breaker(wish: Wish, models: Callable[[str], AgentModelSpec | None], health: ModelHealth, now: float) -> Waits | None:
    """A model whose endpoint fails, and that has no fallback whose endpoint works."""
    for name in wish.models:
        spec = models(name)
        tried = (name, *(spec.fallback if spec is not None else ()))
        until = [end for one in tried if (end := health.open_until(wish.namespace, one)) is not None and end > now]
        if len(until) == len(tried):
            told = "its circuit breaker is" if len(tried) == 1 else "its circuit breaker and those of its fallbacks are"
            message = f"AgentModel {quoted(name)}: runners say that {told} open, for {max(1, round(min(until) - now))} s more"
            return Waits(reason=Reason.MODEL_BREAKER_OPEN, message=message)
    return None


def _served(spec: AgentModelSpec, namespace: str, name: str, health: ModelHealth) -> Capacity | None:
    return capacity(spec.limits, in_flight=health.load(namespace, name), requests=health.requests(namespace, name))


def _full_model(wish: Wish, held: Holdings, models: Callable[[str], AgentModelSpec | None], health: ModelHealth) -> Waits | None:
    for name in wish.models:
        spec = models(name)
        most = _served(spec, wish.namespace, name, health) if spec is not None else None
        running = held.of_model(wish.namespace, name)
        if most is not None and running >= most.tasks:
            message = f"AgentModel {quoted(name)}: {running} tasks use it, of at most {most.tasks}: {most.because}"
            return Waits(reason=Reason.MODEL_FULL, message=message)
    return None
