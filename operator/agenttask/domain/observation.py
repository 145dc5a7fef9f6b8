"""What one pass of the controller looks at, as values: the task, its pod, and what admission says.

Everything here is projected from typed decodes and held for as long as a task lives, so it is small: no bodies.
"""

from typing import Annotated

from msgspec import Meta, Struct

from agenttask.api.meta import ObjectMeta
from agenttask.api.reasons import Reason
from agenttask.api.report import Report
from agenttask.api.task import AgentTaskSpec, AgentTaskStatus, DeviceStatus, OutputRef

Instant = Annotated[float, Meta(description="Unix seconds")]


class SeenTask(Struct, frozen=True, kw_only=True):
    """A task of the cache; `spec` is None when it cannot be read, and then `problem` says why."""

    metadata: ObjectMeta
    spec: AgentTaskSpec | None
    problem: str = ""
    status: AgentTaskStatus = AgentTaskStatus()

    @property
    def uid(self) -> str:
        """The identity; names are used again."""
        return self.metadata.uid

    @property
    def namespace(self) -> str:
        """Where it lives, and everything that it names."""
        return self.metadata.namespace

    def __str__(self) -> str:
        return f"{self.metadata.namespace}/{self.metadata.name}"


class Terminated(Struct, frozen=True, kw_only=True):
    """The end of the pod's container, as the kubelet tells it; `message` is the report or the runtime's error."""

    exit_code: int = 0
    reason: str = ""
    message: str = ""
    started: Instant | None = None
    finished: Instant | None = None


class SeenPod(Struct, frozen=True, kw_only=True):
    """A task's pod; `gone` when it was deleted and this is how it was last seen."""

    name: str
    uid: str
    owner: str
    attempt: int = 1
    created: Instant | None = None
    node: str = ""
    phase: str = ""
    reason: str = ""
    message: str = ""
    deletion: Instant | None = None
    """When its grace ends, once it is being deleted."""
    deleted: Instant | None = None
    """When the API server was asked to delete it."""
    disrupted: bool = False
    """The control plane said that it takes the pod away: eviction, preemption, a lost node."""
    unschedulable: str | None = None
    unschedulable_since: Instant | None = None
    unprepared: str | None = None
    """Why its node does not prepare the devices of its claims, as the kubelet's event says."""
    unprepared_since: Instant | None = None
    """Of one with claims: since when it has a node and no sandbox there, which comes after its volumes and its devices."""
    gates: tuple[str, ...] = ()
    """Who holds it back from the scheduler, such as `kueue.x-k8s.io/admission`."""
    waiting_reason: str = ""
    waiting_message: str = ""
    running_since: Instant | None = None
    terminated: Terminated | None = None
    device: DeviceStatus | None = None
    has_devices: bool = False
    """Of one that failed: whether it asked its node for any."""
    gone: bool = False

    @property
    def started(self) -> Instant | None:
        """When the container began to run, if it ever did."""
        return self.running_since or (self.terminated.started if self.terminated is not None else None)

    @property
    def finished(self) -> bool:
        """Whether nothing of it runs any more: restartPolicy is Never."""
        return self.gone or self.terminated is not None or self.phase in ("Succeeded", "Failed")


class Refused(Struct, frozen=True, kw_only=True):
    """The task can never run as it is: `Accepted=False` when `reason` is about the task itself."""

    reason: Reason
    message: str
    accepted: bool = False


class Waits(Struct, frozen=True, kw_only=True):
    """Something is not there yet; `missing` are the cache keys whose change is worth another look."""

    reason: Reason
    message: str
    missing: tuple[tuple[str, ...], ...] = ()
    position: int | None = None
    """The place in the line, from 1, for those near its head."""


class Admitted(Struct, frozen=True, kw_only=True):
    """The pod may be created, on this device class."""

    device: DeviceStatus = DeviceStatus()


Admission = Refused | Waits | Admitted


class NextClass(Struct, frozen=True, kw_only=True):
    """The device class that the task would get now, were its pod's given up; `anew` after all of them were tried."""

    class_: str
    anew: bool = False


class Rejection(Struct, frozen=True, kw_only=True):
    """Why creating the pod last failed; a `passing` one is tried again when the task has its turn anew."""

    reason: Reason
    message: str
    passing: bool = False


class StoredOutput(Struct, frozen=True, kw_only=True):
    """An output that was handed over besides the report; `text` is None where it is larger than a status takes."""

    ref: OutputRef
    text: str | None = None


class Observation(Struct, frozen=True, kw_only=True):
    """All that `plan` decides from, besides the task and the clock."""

    admission: Admission
    attempt: int = 1
    """The current one: the first that has not ended."""
    pod: SeenPod | None = None
    """That of the current attempt."""
    pod_name: str = ""
    """The name that this attempt's pod has or would have."""
    unanswered: bool = False
    """The attempt was put on record in this process, and the POST of its pod has no answer yet."""
    node_lost_seconds: float = 300.0
    """How long after its grace a pod may stay Terminating before its node counts as lost."""
    rejection: Rejection | None = None
    never_made: bool = False
    """Each POST of the attempt's pod was refused, in this process: on record or not, nothing of it ever ran."""
    next_class: NextClass | None = None
    """Known where it matters: the pod finds no node, or no device on it, or its device failed."""
    missing_input: str | None = None
    """An input that vanished after the pod was created; the kubelet waits for it without saying so in the pod."""
    models: str = ""
    trace_id: str | None = None
    live: Report | None = None
    """How far the running attempt is, as it told the gateway."""
    waits_for_record: str = ""
    """Why the output of an attempt that has done its steps is not stored yet; empty where it does not wait."""
    live_due: Instant = 0.0
    """From when on that is worth a write of its own."""
    stored: StoredOutput | None = None
    """What an attempt that has ended with `outputStored` or `outputObject` did store, as far as that is believed."""
    disbelieved: str = ""
    """Why the object that its report names is not taken for its output."""
