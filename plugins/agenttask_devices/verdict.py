"""What a strategy says of a class: the sentence that a user reads in `status.device.considered`."""

from collections.abc import Mapping, Sequence

from agenttask.plugin.device import Choice, DeviceRequest, Stock


def wished(request: DeviceRequest, inventory: Sequence[Stock]) -> tuple[Stock, ...]:
    """The wished classes with their stock, in order of wish."""
    by_name = {stock.class_.name: stock for stock in inventory}
    return tuple(by_name[name] for name in request.classes)


def judge(stock: Stock) -> Choice:
    """Whether a task fits now, and why; an unknown stock fits, the scheduler finds out."""
    return Choice(class_=stock.class_.name, usable=stock.free is None or stock.free > 0, verdict=_sentence(stock))


def passed_over(stock: Stock, reason: str) -> Choice:
    """A class that the strategy does not take, whatever its stock."""
    return Choice(class_=stock.class_.name, usable=False, verdict=reason)


def kinds(stocks: Sequence[Stock]) -> str:
    """The classes and their kinds, for a message: `gpu (cuda), small (cpu)`."""
    return ", ".join(f"{stock.class_.name} ({stock.class_.kind})" for stock in stocks) or "none"


def _sentence(stock: Stock) -> str:
    what = _resources(stock.class_.resources)
    if stock.total == 0:
        return f"no node offers {what}" if what else _no_node(stock.class_.node_selector)
    if stock.free is None or stock.total is None:
        what = what or (f"claims by {stock.class_.resource_claim_template}" if stock.class_.resource_claim_template else "")
        return f"{what} not counted, left to the scheduler" if what else "needs no device"
    unit = what if what in stock.class_.resources else f"places for {what}" if what else "places"
    counted = f"{stock.total} {unit}"
    return f"all {counted} in use" if stock.free == 0 else f"{stock.free} of {counted} free"


def _resources(resources: Mapping[str, int]) -> str:
    """`nvidia.com/gpu`, or `2 x nvidia.com/gpu` where a task takes more than one."""
    return " + ".join(name if amount == 1 else f"{amount} x {name}" for name, amount in sorted(resources.items()) if amount > 0)


def _no_node(selector: Mapping[str, str]) -> str:
    labels = ", ".join(f"{name}={value}" for name, value in sorted(selector.items()))
    return f"no node matches {labels}" if labels else "there is none"
