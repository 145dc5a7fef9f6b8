"""Where a task would go now, were its pod's device class given up: asked for a pod without node or device, or whose device failed."""

from collections.abc import Mapping

from agenttask.controller.admission import NOTHING_FULL, Gate
from agenttask.controller.inventory import Inventory
from agenttask.controller.seen_model import SeenModel
from agenttask.domain import fallback
from agenttask.domain.observation import Admitted, NextClass, SeenPod, SeenTask


def next_class(
    task: SeenTask,
    pod: SeenPod,
    *,
    gate: Gate,
    models: Mapping[str, SeenModel],
    inventory: Inventory,
    full: Mapping[str, str] = NOTHING_FULL,
) -> NextClass | None:
    """The class, or None where there is no other now; a task that is stopped gets none.

    `models` are all of the namespace; `full` are classes that the task's queue has enough of, and may never have room on.
    """
    spec = task.spec
    if spec is None or spec.cancel or spec.suspend or pod.device is None or not fallback.asks_for_another(pod):
        return None
    here = {pod.device.class_: fallback.held_up(pod) or "its device failed in the pod"}
    for out, anew in ((fallback.tried(task.status) | here, False), (here, True)):
        found = gate.place(gate.wish(spec, models, out), inventory.stock(spec.device.gpu), full)
        if isinstance(found, Admitted):
            return NextClass(class_=found.device.class_, anew=anew)
    return None
