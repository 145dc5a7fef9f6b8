"""Pods and nodes as the API server sends them, only the fields that decisions need (projection.py).

msgspec skips what is not named here, so a watch event of 3 KB costs microseconds and leaves 0.3 KB behind.
"""

from msgspec import Struct

from agenttask.api.constants import ANNOTATION_DEVICE, ANNOTATION_MODELS
from agenttask.api.meta import ObjectMeta, OwnerReference


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
