"""A strategy that insists on one kind of class: what `cpu` and `gpu` have in common."""

from collections.abc import Sequence

from agenttask.api.errors import DeviceUnavailable
from agenttask.plugin.device import Choice, DeviceRequest, Stock
from agenttask_devices.verdict import judge, kinds, passed_over, wished


def rank_kind(strategy: str, kind: str, request: DeviceRequest, inventory: Sequence[Stock]) -> Sequence[Choice]:
    """The wished classes of one kind in order of wish, then the others, which are never usable.

    Raises:
        DeviceUnavailable: no wished class is of that kind, so that waiting is pointless.
    """
    stocks = wished(request, inventory)
    fitting = [stock for stock in stocks if stock.class_.kind == kind]
    if not fitting:
        raise DeviceUnavailable(
            f"strategy {strategy!r} takes only classes of kind {kind!r}, and none of those wished is: {kinds(stocks)}; "
            "wish another class or use strategy 'auto'"
        )
    others = [stock for stock in stocks if stock.class_.kind != kind]
    return [judge(stock) for stock in fitting] + [
        passed_over(stock, f"is of kind {stock.class_.kind}; strategy {strategy} takes only {kind}") for stock in others
    ]
