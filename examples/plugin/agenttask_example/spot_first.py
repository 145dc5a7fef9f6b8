"""`spot-first`: spot capacity before anything else, as long as a task fits there now.

A device strategy is pure: it gets the wishes and the stock, and ranks with a sentence for each class.
"""

from collections.abc import Sequence

from agenttask.plugin.device import Choice, DeviceRequest, Stock

SPOT_LABEL = "example.com/capacity"
SPOT = "spot"


class SpotFirst:
    """Wished classes whose nodes are labelled `example.com/capacity: spot` come first, each group in order of wish."""

    def rank(self, request: DeviceRequest, inventory: Sequence[Stock]) -> Sequence[Choice]:
        """Every wished class; one without room is not usable."""
        by_name = {stock.class_.name: stock for stock in inventory}
        wished = [by_name[name] for name in request.classes]
        return [_judge(stock) for stock in sorted(wished, key=lambda stock: not _on_spot(stock))]


def _on_spot(stock: Stock) -> bool:
    return stock.class_.node_selector.get(SPOT_LABEL) == SPOT


def _judge(stock: Stock) -> Choice:
    usable = stock.free is None or stock.free > 0
    capacity = "spot capacity" if _on_spot(stock) else "regular capacity"
    return Choice(class_=stock.class_.name, usable=usable, verdict=f"{capacity} {'with' if usable else 'without'} room")
