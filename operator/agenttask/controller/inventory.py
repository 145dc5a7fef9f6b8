"""How much of each device class is there, kept from nodes and pods as they change; counted when somebody asks."""

from collections.abc import Callable, Mapping, Sequence

from agenttask.api.task import Gpu
from agenttask.controller.projection import node_view, owner_of, used_view
from agenttask.controller.wire import Node, Pod
from agenttask.domain.device import DeviceClass, Stock
from agenttask.domain.device_size import sized
from agenttask.domain.stock import NodeView, UsedView, stock


class Inventory:
    """Nodes, and what our pods hold of them. `freed` is called when there may be more than before."""

    def __init__(self, classes: Sequence[DeviceClass], freed: Callable[[], None]) -> None:
        self._classes = classes
        self._freed = freed
        self._nodes: dict[str, NodeView] = {}
        self._held: dict[str, UsedView] = {}
        self._reserved: dict[str, UsedView] = {}
        """By task: what a pod will hold that is not made yet."""
        self._stock: dict[int, tuple[Stock, ...]] = {}
        """By the number of GPUs that a task wishes; without a word it is one."""
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
        self._stock.clear()
        self._freed()

    def pod_changed(self, pod: Pod, *, gone: bool) -> None:
        """A pod of ours appeared, moved on or went."""
        uid = pod.metadata.uid
        used = None if gone else used_view(pod)
        if used is not None and uid not in self._held and self._reserved.pop(owner_of(pod), None) is not None:
            self._stock.clear()
        if used == self._held.get(uid):
            return
        self._stock.clear()
        if used is not None:
            self._held[uid] = used
        else:
            del self._held[uid]
            self._freed()

    def reserve(self, task: str, resources: Mapping[str, int]) -> None:
        """A task has its turn: what its pod will request is taken from now on, until that pod is seen."""
        if resources:
            self._reserved[task] = UsedView(node="", resources=dict(resources))
            self._stock.clear()

    def release(self, task: str) -> None:
        """The task makes no pod after all, or has made it."""
        if self._reserved.pop(task, None) is not None:
            self._stock.clear()
            self._freed()

    def learn_nodes(self, *, known: bool) -> None:
        """Whether the nodes can be relied on."""
        if known != self.nodes_known:
            self.nodes_known = known
            self._stock.clear()
            self._freed()

    def stock(self, gpu: Gpu | None = None) -> tuple[Stock, ...]:
        """What there is now for tasks that wish such GPUs."""
        count = gpu.count if gpu is not None else 1
        found = self._stock.get(count)
        if found is None:
            nodes = list(self._nodes.values()) if self.nodes_known else None
            found = stock([sized(one, Gpu(count=count)) for one in self._classes], nodes, [*self._held.values(), *self._reserved.values()])
            self._stock[count] = found
        return found
