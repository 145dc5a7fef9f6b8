"""Pods and nodes as the API server sends them, only the fields that decisions need, and their projections.

msgspec skips what is not named here, so a watch event of 3 KB costs microseconds and leaves 0.3 KB behind.
"""

from typing import Final

import msgspec
from msgspec import Struct

from agenttask.api.constants import ANNOTATION_DEVICE, ANNOTATION_MODELS, CONTAINER, LABEL_ATTEMPT, TASK_KIND
from agenttask.api.meta import ObjectMeta, OwnerReference
from agenttask.api.task import DeviceStatus
from agenttask.domain import moment
from agenttask.domain.nearest import quoted
from agenttask.domain.observation import SeenPod, Terminated
from agenttask.domain.stock import NodeView, UsedView


class Wire(Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """Base of what is only read."""


class TerminatedState(Wire, frozen=True, kw_only=True):
    """v1.ContainerStateTerminated."""

    exit_code: int = 0
    reason: str = ""
    message: str = ""
    started_at: str | None = None
    finished_at: str | None = None


class WaitingState(Wire, frozen=True, kw_only=True):
    """v1.ContainerStateWaiting."""

    reason: str = ""
    message: str = ""


class RunningState(Wire, frozen=True, kw_only=True):
    """v1.ContainerStateRunning."""

    started_at: str | None = None


class ContainerState(Wire, frozen=True, kw_only=True):
    """v1.ContainerState."""

    waiting: WaitingState | None = None
    running: RunningState | None = None
    terminated: TerminatedState | None = None


class ContainerStatus(Wire, frozen=True, kw_only=True):
    """v1.ContainerStatus."""

    name: str = ""
    state: ContainerState = ContainerState()


class PodCondition(Wire, frozen=True, kw_only=True):
    """v1.PodCondition."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class PodClaimStatus(Wire, frozen=True, kw_only=True):
    """v1.PodResourceClaimStatus: a claim that was made for the pod."""

    name: str = ""


class PodClaim(Wire, frozen=True, kw_only=True):
    """v1.PodResourceClaim."""

    name: str = ""
    resource_claim_template_name: str = ""


class PodStatus(Wire, frozen=True, kw_only=True):
    """v1.PodStatus."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: tuple[PodCondition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    resource_claim_statuses: tuple[PodClaimStatus, ...] = ()


class ContainerResources(Wire, frozen=True, kw_only=True):
    """v1.ResourceRequirements; extended resources stand in the limits."""

    limits: dict[str, str] = {}


class PodContainer(Wire, frozen=True, kw_only=True):
    """v1.Container."""

    resources: ContainerResources = ContainerResources()


class SchedulingGate(Wire, frozen=True, kw_only=True):
    """v1.PodSchedulingGate."""

    name: str = ""


class PodSpec(Wire, frozen=True, kw_only=True):
    """v1.PodSpec."""

    node_name: str = ""
    containers: tuple[PodContainer, ...] = ()
    resource_claims: tuple[PodClaim, ...] = ()
    scheduling_gates: tuple[SchedulingGate, ...] = ()


class PodAnnotations(Struct, frozen=True, kw_only=True, rename={"device": ANNOTATION_DEVICE, "models": ANNOTATION_MODELS}, gc=False):
    """The annotations that the controller reads back."""

    device: str = ""
    models: str = ""


class PodMeta(Wire, frozen=True, kw_only=True):
    """Metadata of a pod. Its annotations are decoded one by one: the document is large, and read by the runner alone."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int = 0
    labels: dict[str, str] = {}
    annotations: PodAnnotations = PodAnnotations()
    owner_references: tuple[OwnerReference, ...] = ()


class Pod(Wire, frozen=True, kw_only=True):
    """v1.Pod."""

    metadata: PodMeta = PodMeta()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class NodeSpec(Wire, frozen=True, kw_only=True):
    """v1.NodeSpec."""

    unschedulable: bool = False


class NodeStatus(Wire, frozen=True, kw_only=True):
    """v1.NodeStatus."""

    allocatable: dict[str, str] = {}


class Node(Wire, frozen=True, kw_only=True):
    """v1.Node."""

    metadata: ObjectMeta = ObjectMeta()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class PartialObject(Wire, frozen=True, kw_only=True):
    """meta.k8s.io/v1 PartialObjectMetadata."""

    metadata: ObjectMeta = ObjectMeta()


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
