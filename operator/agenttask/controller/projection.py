"""What decisions need of pods and nodes, out of what the API server sends."""

from typing import Final

import msgspec

from agenttask.api.constants import CONTAINER, LABEL_ATTEMPT, TASK_KIND
from agenttask.api.task import DeviceStatus
from agenttask.controller.wire import ContainerState, Node, Pod, TerminatedState
from agenttask.domain import moment
from agenttask.domain.nearest import quoted
from agenttask.domain.observation import SeenPod, Terminated
from agenttask.domain.stock import NodeView, UsedView

_decode_models: Final = msgspec.json.Decoder(tuple[str, ...]).decode
_decode_device: Final = msgspec.json.Decoder(DeviceStatus).decode
_COUNTED: Final = "/"
"""Extended resources have a domain: `nvidia.com/gpu`; cpu and memory have none."""


def models_of(pod: Pod) -> tuple[str, ...]:
    """The AgentModels that the pod says it calls, each once: whoever may change pods writes here what he likes."""
    try:
        return tuple(dict.fromkeys(_decode_models(pod.metadata.annotations.models or "[]")))
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return ()


def owner_of(pod: Pod) -> str:
    """The uid of the task that controls the pod, or nothing."""
    return next((ref.uid for ref in pod.metadata.owner_references if ref.controller and ref.kind == TASK_KIND), "")


def project(pod: Pod, *, gone: bool = False) -> SeenPod:
    """What decisions need of a pod."""
    meta, status = pod.metadata, pod.status
    state = next((one.state for one in status.container_statuses if one.name == CONTAINER), ContainerState())
    attempt = meta.labels.get(LABEL_ATTEMPT, "1")
    unschedulable = _unschedulable(pod)
    deletion = moment.parse(meta.deletion_timestamp)
    return SeenPod(
        name=meta.name,
        uid=meta.uid,
        owner=owner_of(pod),
        attempt=int(attempt) if attempt.isascii() and attempt.isdigit() else 1,
        created=moment.parse(meta.creation_timestamp),
        node=pod.spec.node_name,
        phase=status.phase,
        reason=status.reason,
        message=status.message,
        deletion=deletion,
        deleted=None if deletion is None else deletion - meta.deletion_grace_period_seconds,
        disrupted=any(one.type == "DisruptionTarget" and one.status == "True" for one in status.conditions),
        gates=tuple(gate.name for gate in pod.spec.scheduling_gates),
        unschedulable=unschedulable[0],
        unschedulable_since=unschedulable[1],
        unprepared_since=_unprepared_since(pod),
        waiting_reason=state.waiting.reason if state.waiting is not None else "",
        waiting_message=state.waiting.message if state.waiting is not None else "",
        running_since=moment.parse(state.running.started_at) if state.running is not None else None,
        terminated=_terminated(state.terminated),
        device=_device(meta.annotations.device),
        has_devices=status.phase == "Failed" and _has_devices(pod),
        gone=gone,
    )


def node_view(node: Node) -> NodeView:
    """A node as placement sees it."""
    return NodeView(
        name=node.metadata.name,
        labels=node.metadata.labels,
        allocatable=_counted(node.status.allocatable),
        schedulable=not node.spec.unschedulable,
    )


def used_view(pod: Pod) -> UsedView | None:
    """The extended resources that a pod holds, unless it has ended, is kept from the scheduler, or holds none."""
    held = _counted(pod.spec.containers[0].resources.limits) if pod.spec.containers else {}
    if not held or pod.spec.scheduling_gates or pod.status.phase in ("Succeeded", "Failed"):
        return None
    return UsedView(node=pod.spec.node_name, resources=held)


def _has_devices(pod: Pod) -> bool:
    return bool(pod.spec.resource_claims or (pod.spec.containers and _counted(pod.spec.containers[0].resources.limits)))


def _counted(amounts: dict[str, str]) -> dict[str, int]:
    return {name: int(amount) for name, amount in amounts.items() if _COUNTED in name and amount.isascii() and amount.isdigit()}


def _unschedulable(pod: Pod) -> tuple[str | None, float | None]:
    """Why the pod finds no node, and since when; the scheduler does not even look at one whose claims are not made."""
    scheduled = next((one for one in pod.status.conditions if one.type == "PodScheduled"), None)
    if scheduled is not None:
        waits = scheduled.status == "False" and scheduled.reason != "SchedulingGated"
        return (scheduled.message or scheduled.reason, moment.parse(scheduled.last_transition_time)) if waits else (None, None)
    made = {one.name for one in pod.status.resource_claim_statuses}
    absent = next((one for one in pod.spec.resource_claims if one.name not in made), None)
    if absent is None or pod.spec.node_name:
        return None, None
    template = absent.resource_claim_template_name
    message = f"no claim is made from ResourceClaimTemplate {quoted(template)} yet; see whether the namespace has it"
    return message, moment.parse(pod.metadata.creation_timestamp)


def _unprepared_since(pod: Pod) -> float | None:
    """Since when a node has a pod with claims, and no sandbox for it: a driver that prepares no claim shows in no other condition."""
    if not pod.spec.resource_claims or pod.status.phase != "Pending":
        return None
    since = {(one.type, one.status): one.last_transition_time for one in pod.status.conditions}
    if ("PodReadyToStartContainers", "False") not in since or ("PodScheduled", "True") not in since:
        return None
    return moment.parse(since["PodScheduled", "True"])


def _terminated(state: TerminatedState | None) -> Terminated | None:
    if state is None:
        return None
    return Terminated(
        exit_code=state.exit_code,
        reason=state.reason,
        message=state.message,
        started=moment.parse(state.started_at),
        finished=moment.parse(state.finished_at),
    )


def _device(text: str) -> DeviceStatus | None:
    try:
        return _decode_device(text) if text else None
    except msgspec.MsgspecError:
        return None
