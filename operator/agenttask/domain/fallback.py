"""When an attempt gives its device class up for another one, and what status remembers of it.

What is given up is written to status first, then the pod is deleted, and its end is no failure: a controller that is
stopped in between reads on where it was. A class that was given up is not tried again before all others were; then the
round begins anew, with twice the patience, so that pods are not made and deleted for ever at the same pace.
"""

from typing import Final

import msgspec

from agenttask.api.reasons import Reason
from agenttask.api.report import shorten
from agenttask.api.task import AgentTaskSpec, AgentTaskStatus, DeviceStatus, TriedClass
from agenttask.domain.observation import Observation, SeenPod, SeenTask
from agenttask.domain.outcome import Outcome, refused_device
from agenttask.domain.placement import MAX_VERDICT

_MOST_DOUBLINGS: Final = 6
_USUAL_SECONDS: Final = 2.0
"""In which a node prepares devices that it can prepare at all."""
LEAST_SLEEP: Final = 10.0


def tried(status: AgentTaskStatus) -> dict[str, str]:
    """The classes that were given up in this round, each with the reason."""
    return {one.class_: one.verdict for one in status.device.tried} if status.device is not None else {}


def given_up(task: SeenTask, seen: Observation) -> bool:
    """Whether status says that the current attempt gives its class up."""
    return task.status.device is not None and any(one.attempt == seen.attempt for one in task.status.device.tried)


def asks_for_another(pod: SeenPod) -> bool:
    """Whether it is worth knowing which class would be next: the pod finds no node, or no device there, or its device failed."""
    if pod.terminated is not None:
        return Reason.DEVICE_UNAVAILABLE in pod.terminated.message
    return held_up(pod) is not None or refused_device(pod)


def held_up(pod: SeenPod) -> str | None:
    """Why the pod does not come to its device: what the scheduler says, or its node; None where nobody says so."""
    return pod.unschedulable if pod.unschedulable is not None else pod.unprepared


def asks_node_from(pod: SeenPod) -> float | None:
    """From when on it is worth asking what its node says of its devices; None where it has none to prepare, or is through with that."""
    return pod.unprepared_since + _USUAL_SECONDS if pod.unprepared_since is not None else None


def _held_up_since(pod: SeenPod) -> float | None:
    since = pod.unschedulable_since if pod.unschedulable is not None else pod.unprepared_since
    return since or pod.created


def due(task: SeenTask, spec: AgentTaskSpec, seen: Observation, pod: SeenPod) -> float | None:
    """When the pod has been without node or device for too long; None where it has them, or the task has no other class."""
    since = _held_up_since(pod)
    if held_up(pod) is None or seen.next_class is None or since is None:
        return None
    return since + _patience(task, spec)


def looks_again(task: SeenTask, spec: AgentTaskSpec, pod: SeenPod, now: float) -> float | None:
    """When to look again at a pod that is held up, or may be: what becomes free and what a node says tell nobody."""
    asks = asks_node_from(pod)
    if asks is not None and now < asks:
        return asks
    seldom = max(_patience(task, spec), LEAST_SLEEP)
    if held_up(pod) is not None:
        return now + seldom
    # A slow node says it late, and status tells it before the class is given up; each look costs a list of events, so they become fewer.
    return now + min(seldom, max(LEAST_SLEEP, now - asks)) if asks is not None else None


def _patience(task: SeenTask, spec: AgentTaskSpec) -> float:
    rounds = task.status.device.rounds if task.status.device is not None else 0
    return spec.device.fallback_after_seconds * 2.0 ** min(rounds, _MOST_DOUBLINGS)


def overdue(task: SeenTask, seen: Observation, pod: SeenPod, now: float) -> DeviceStatus:
    """What status says of devices once the class of a pod that is held up is given up."""
    waited = f"for {now - (_held_up_since(pod) or now):.0f} s"
    if pod.unschedulable is not None:
        return _with(task, seen, pod, f"unschedulable {waited}: {pod.unschedulable or 'the scheduler finds no node'}")
    return _with(task, seen, pod, f"device not prepared by node {pod.node} {waited}: {pod.unprepared}")


def failed(task: SeenTask, seen: Observation, ended: Outcome) -> DeviceStatus | None:
    """What status says of devices once the class's device failed in the pod; None where that changes nothing."""
    if ended.reason is not Reason.DEVICE_UNAVAILABLE or seen.next_class is None or seen.pod is None:
        return None
    return _with(task, seen, seen.pod, ended.message if refused_device(seen.pod) else f"failed in the pod: {ended.message}")


def settled(task: SeenTask, seen: Observation) -> DeviceStatus | None:
    """What status says of devices after an attempt that ran: a class that it was about to give up had a node after all."""
    device = _of(task, seen.pod)
    if device is None or seen.pod is None or seen.pod.started is None:
        return device
    return msgspec.structs.replace(device, tried=tuple(one for one in device.tried if one.attempt != seen.attempt))


def remembered(pod: DeviceStatus | None, status: DeviceStatus | None) -> DeviceStatus | None:
    """The pod's own device, with what status alone remembers."""
    if pod is None or status is None:
        return pod or status
    return msgspec.structs.replace(pod, tried=status.tried, rounds=status.rounds)


def _with(task: SeenTask, seen: Observation, pod: SeenPod, verdict: str) -> DeviceStatus:
    device = _of(task, pod) or DeviceStatus()
    anew = seen.next_class is not None and seen.next_class.anew
    kept = () if anew else tuple(one for one in device.tried if one.class_ != device.class_)
    entry = TriedClass(class_=device.class_, attempt=seen.attempt, verdict=shorten(verdict, MAX_VERDICT))
    return msgspec.structs.replace(device, tried=(*kept, entry), rounds=device.rounds + anew)


def _of(task: SeenTask, pod: SeenPod | None) -> DeviceStatus | None:
    return remembered(pod.device if pod is not None else None, task.status.device)
