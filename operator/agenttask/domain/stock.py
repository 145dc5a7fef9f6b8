"""How much of each device class is there: counted from nodes and from what our own pods hold.

An estimate that saves a task from waiting for a GPU nobody has; the scheduler has the last word. What cannot be counted
(nodes that may not be read, claims of dynamic resource allocation, labels that no node has yet) is unknown, not absent.
"""

from collections.abc import Sequence

from msgspec import Struct

from agenttask.domain.device import DeviceClass, Stock


class NodeView(Struct, frozen=True, kw_only=True):
    """A node as placement sees it; `allocatable` has whole extended resources, such as `nvidia.com/gpu`."""

    name: str
    labels: dict[str, str] = {}
    allocatable: dict[str, int] = {}
    schedulable: bool = True


class UsedView(Struct, frozen=True, kw_only=True):
    """Extended resources that one of our pods holds; `node` is empty until the scheduler has chosen."""

    node: str
    resources: dict[str, int]


def stock(classes: Sequence[DeviceClass], nodes: Sequence[NodeView] | None, used: Sequence[UsedView]) -> tuple[Stock, ...]:
    """The stock of every class; without nodes (they may not be read) all of it is unknown."""
    if nodes is None:
        return tuple(Stock(class_=one) for one in classes)
    held = _held_by_node(used)
    unplaced = held.get("", {})
    return tuple(_of_class(one, nodes, held, unplaced) for one in classes)


def _of_class(one: DeviceClass, nodes: Sequence[NodeView], held: dict[str, dict[str, int]], unplaced: dict[str, int]) -> Stock:
    schedulable = [node for node in nodes if node.schedulable]
    matching = [node for node in schedulable if one.node_selector.items() <= node.labels.items()]
    wanted = {resource: amount for resource, amount in one.resources.items() if amount > 0}
    if not wanted and (matching or not one.node_selector):
        return Stock(class_=one)  # nothing to count, and where there is no node yet an autoscaler wants to see the pod
    if not matching:
        possible = any(not wanted or _fits(wanted, node.allocatable, {}) > 0 for node in _perhaps(one, schedulable))
        unknown = possible or not (wanted or schedulable)
        return Stock(class_=one) if unknown else Stock(class_=one, free=0, total=0)
    free = sum(_fits(wanted, node.allocatable, held.get(node.name, {})) for node in matching)
    waiting = max((-(-unplaced.get(resource, 0) // amount) for resource, amount in wanted.items()), default=0)
    return Stock(class_=one, free=max(0, free - waiting), total=sum(_fits(wanted, node.allocatable, {}) for node in matching))


def _perhaps(one: DeviceClass, nodes: Sequence[NodeView]) -> Sequence[NodeView]:
    """Nodes that lack a label of the selector which no node has: whoever sets it (a feature discovery, say) may not run here yet."""
    names = {name for node in nodes for name in node.labels}
    unset = one.node_selector.keys() - names
    given = {name: value for name, value in one.node_selector.items() if name not in unset}
    return [node for node in nodes if given.items() <= node.labels.items()] if unset else ()


def _fits(wanted: dict[str, int], allocatable: dict[str, int], held: dict[str, int]) -> int:
    """How many times the resources fit on one node."""
    return max(0, min((allocatable.get(resource, 0) - held.get(resource, 0)) // amount for resource, amount in wanted.items()))


def _held_by_node(used: Sequence[UsedView]) -> dict[str, dict[str, int]]:
    held: dict[str, dict[str, int]] = {}
    for pod in used:
        on_node = held.setdefault(pod.node, {})
        for resource, amount in pod.resources.items():
            on_node[resource] = on_node.get(resource, 0) + amount
    return held
