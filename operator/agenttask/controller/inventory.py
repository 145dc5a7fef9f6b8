"""How much of each device class is there, kept from nodes and pods as they change; counted when somebody asks."""

from collections.abc import Callable, Sequence

from agenttask.controller.wire import Node, Pod, node_view, used_view
from agenttask.domain.device import DeviceClass, Stock
from agenttask.domain.stock import NodeView, UsedView, stock


class Inventory:
    """Nodes, and what our pods hold of them. `freed` is called when there may be more than before."""

    def __init__(self, classes: Sequence[DeviceClass], freed: Callable[[], None]) -> None:
        self._classes = classes
        self._freed = freed
        self._nodes: dict[str, NodeView] = {}
        self._held: dict[str, UsedView] = {}
        self._stock: tuple[Stock, ...] | None = None
        self.nodes_known = False
        """Whether nodes may be read and have been listed; until then their devices are unknown."""

    def on_node(self, old: Node | None, new: Node | None) -> None:
        """A node appeared, changed or went; most changes are heartbeats and change nothing here."""
        node = new if new is not None else old
        if node is None:
            return
        name = node.metadata.name
        view = node_view(node) if new is not None else None
        if view == self._nodes.get(name):
            return
        if view is None:
            self._nodes.pop(name, None)
        else:
            self._nodes[name] = view
        self._stock = None
        self._freed()

    def pod_changed(self, pod: Pod, *, gone: bool) -> None:
        """A pod of ours appeared, moved on or went."""
        uid = pod.metadata.uid
        used = None if gone else used_view(pod)
        if used == self._held.get(uid):
            return
        self._stock = None
        if used is not None:
            self._held[uid] = used
        else:
            del self._held[uid]
            self._freed()

    def learn_nodes(self, *, known: bool) -> None:
        """Whether the nodes can be relied on."""
        if known != self.nodes_known:
            self.nodes_known = known
            self._stock = None
            self._freed()

    def stock(self) -> tuple[Stock, ...]:
        """What there is now."""
        if self._stock is None:
            nodes = list(self._nodes.values()) if self.nodes_known else None
            self._stock = stock(self._classes, nodes, list(self._held.values()))
        return self._stock
