"""Placement: which device class a task's pod gets.

The strategy, a plugin, ranks; what it answers is checked here, because a stranger's plugin runs in the controller. A
class that is not defined makes the task wait even where another wish would do: a misspelt `gpu` must not end on a CPU.
A class that is out of the question (too small, tried already, a model that it has not) is shown to the strategy with a
stock of 0, so that no plugin need know of such things, and has that as its verdict.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from agenttask.api.errors import AgentTaskError, DeviceUnavailable
from agenttask.api.reasons import Reason
from agenttask.api.report import shorten
from agenttask.api.task import Gpu, Verdict
from agenttask.domain.device import Choice, DeviceClass, DeviceRequest, DeviceStrategy, Stock
from agenttask.domain.device_size import too_small
from agenttask.domain.nearest import did_you_mean, listed, quoted

MAX_VERDICT: Final = 256
MAX_REASON: Final = 1024
MAX_CONSIDERED: Final = 64
"""Bounds below those of the CRD: a status that a verbose plugin made too long would never be written."""


class Placement(Struct, frozen=True, kw_only=True):
    """Where a task goes: a class, or (`chosen` is None) the reason it waits for; `reason` is the sentence for status."""

    chosen: DeviceClass | None
    waiting: Reason | None = None
    reason: str
    considered: tuple[Verdict, ...] = ()


def place(
    wished: Sequence[str],
    strategy: DeviceStrategy,
    inventory: Sequence[Stock],
    *,
    gpu: Gpu | None = None,
    out: Mapping[str, str] | None = None,
) -> Placement:
    """Choose a class; a task that wishes none takes what the installation defines, in its order.

    Args:
        wished: names of classes.
        strategy: ranks them.
        inventory: counted for tasks with these GPUs.
        gpu: what the task needs of a class with GPUs.
        out: classes that are out of the question for now, each with a sentence that tells why.

    Raises:
        DeviceUnavailable: waiting is pointless, or the strategy is broken.
    """
    classes = {stock.class_.name: stock.class_ for stock in inventory}
    unknown = next((name for name in wished if name not in classes), None)
    if unknown is not None:
        reason = f"no device class is called {quoted(unknown)}; the installation defines: {listed(classes)}{did_you_mean(unknown, classes)}"
        return Placement(chosen=None, waiting=Reason.UNKNOWN_CLASS, reason=reason)
    if not classes:
        return Placement(chosen=None, waiting=Reason.UNKNOWN_CLASS, reason="the installation defines no device class")
    request = DeviceRequest(classes=tuple(wished) or tuple(classes), gpu=gpu)
    never = {name: why for name in request.classes if (why := too_small(classes[name], gpu)) is not None}
    ranked = _ranked(strategy, request, inventory, {**(out or {}), **never})
    considered = tuple(Verdict(class_=choice.class_, verdict=choice.verdict) for choice in ranked[:MAX_CONSIDERED])
    best = next((choice for choice in ranked if choice.usable), None)
    if best is None:
        verdicts = "; ".join(f"{choice.class_}: {choice.verdict}" for choice in ranked) or "the strategy considers no class"
        if never and not _ever(strategy, request, inventory, never):
            raise DeviceUnavailable(shorten(f"no class can serve the task: {verdicts}", MAX_REASON))
        return Placement(chosen=None, waiting=Reason.WAITING_FOR_DEVICE, reason=shorten(verdicts, MAX_REASON), considered=considered)
    return Placement(chosen=classes[best.class_], reason=_because(best, ranked), considered=considered)


def _ever(strategy: DeviceStrategy, request: DeviceRequest, inventory: Sequence[Stock], never: Mapping[str, str]) -> bool:
    """Whether the strategy would take any class, were it free."""
    free = [msgspec.structs.replace(stock, free=1, total=1) for stock in inventory]
    return any(choice.usable for choice in _ranked(strategy, request, free, never))


def _because(best: Choice, ranked: Sequence[Choice]) -> str:
    """Why this class: its own verdict, and what spoke against those ranked above it."""
    above = ranked[: ranked.index(best)]
    return shorten("; ".join([f"{choice.class_}: {choice.verdict}" for choice in (*above, best)]), MAX_REASON)


def _ranked(strategy: DeviceStrategy, request: DeviceRequest, inventory: Sequence[Stock], out: Mapping[str, str]) -> tuple[Choice, ...]:
    """The strategy's answer, if it is one; what is out of the question has that for a verdict."""
    name = type(strategy).__name__
    shown = [msgspec.structs.replace(stock, free=0, total=0) if stock.class_.name in out else stock for stock in inventory]
    try:
        answer: object = strategy.rank(request, shown)
    except AgentTaskError:
        raise
    except Exception as error:  # a stranger's code: whatever it raises is its failure, not the controller's
        raise DeviceUnavailable(f"device strategy {name} failed: {type(error).__name__}: {shorten(str(error), MAX_VERDICT)}") from error
    if not isinstance(answer, Sequence) or isinstance(answer, str | bytes):
        raise DeviceUnavailable(f"device strategy {name} is broken: it answers {type(answer).__name__}, not a list of choices")
    known = {stock.class_.name for stock in inventory}
    return tuple(_with(out, _checked(name, choice, known)) for choice in answer)


def _with(out: Mapping[str, str], choice: Choice) -> Choice:
    why = out.get(choice.class_)
    return choice if why is None else Choice(class_=choice.class_, usable=False, verdict=shorten(why, MAX_VERDICT))


def _checked(strategy: str, choice: object, known: Collection[str]) -> Choice:
    if not isinstance(choice, Choice) or not isinstance(choice.verdict, str):
        raise DeviceUnavailable(f"device strategy {strategy} is broken: {quoted(choice)} is no choice")
    if choice.class_ not in known:
        raise DeviceUnavailable(f"device strategy {strategy} is broken: it chooses {quoted(choice.class_)}; there are: {listed(known)}")
    return Choice(class_=choice.class_, usable=bool(choice.usable), verdict=shorten(choice.verdict, MAX_VERDICT))
