"""`cheapest`: the lowest cost that the installation gives for a class; one without a cost comes last."""

from collections.abc import Sequence
from decimal import Decimal

from agenttask.plugin.device import Choice, DeviceClass, DeviceRequest, Stock
from agenttask_devices.verdict import judge, wished


class Cheapest:
    """Orders the wished classes by cost; those of one cost stay in order of wish."""

    def rank(self, request: DeviceRequest, inventory: Sequence[Stock]) -> Sequence[Choice]:
        """All wished classes, the cheapest first, each with its cost."""
        return [
            Choice(class_=choice.class_, usable=choice.usable, verdict=f"{_said(stock.class_)}; {choice.verdict}")
            for stock in sorted(wished(request, inventory), key=_order)
            for choice in [judge(stock)]
        ]


def _order(stock: Stock) -> tuple[bool, Decimal]:
    cost = stock.class_.cost
    return cost is None, Decimal(cost or 0)


def _said(one: DeviceClass) -> str:
    return "cost unknown" if one.cost is None else f"cost {one.cost}"
