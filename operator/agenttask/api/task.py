"""AgentTask as types: what a user writes, and the status that the controller writes."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from agenttask.api.meta import Condition, ObjectMeta
from agenttask.api.pod_options import ConfigMapSource, PersistentVolumeClaimSource, PodOptions
from agenttask.api.reasons import Phase, StepPhase
from agenttask.api.steps import PluginName, Priority, Quantity, Seconds, Step, StepName, Template, Wire

Counted = Annotated[int, Meta(ge=0, le=1000)]
LabelKey = Annotated[str, Meta(min_length=1, max_length=317)]
ControllerName = Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[a-zA-Z0-9/_.-]+$", max_length=63)]
"""A domain and a path, as `kueue.x-k8s.io/multikueue`."""


class Input(Wire, frozen=True, kw_only=True):
    """Files for the steps, mounted read-only at /inputs/<name>; exactly one source."""

    name: StepName
    config_map: ConfigMapSource | None = None
    persistent_volume_claim: PersistentVolumeClaimSource | None = None


class Workspace(Wire, frozen=True, kw_only=True):
    """Where steps write, at /workspace: an emptyDir that goes with the pod, or a claim that outlives it."""

    size_limit: Quantity = "1Gi"
    """Of the emptyDir."""
    persistent_volume_claim: PersistentVolumeClaimSource | None = None


class Gpu(Wire, frozen=True, kw_only=True):
    """What a task needs of a class with GPUs."""

    count: Annotated[int, Meta(ge=1, le=64)] = 1
    memory: Quantity | None = None
    """Of each."""


class Device(Wire, frozen=True, kw_only=True):
    """Where the pod may run."""

    strategy: PluginName = "auto"
    classes: Annotated[tuple[StepName, ...], Meta(max_length=16)] = ()
    gpu: Gpu | None = None
    fallback_after_seconds: Seconds = 60
    """How long a pod may find no node, or no device on it, before the next class is tried."""


class Backoff(Wire, frozen=True, kw_only=True):
    """Pause before the next attempt: `initialSeconds * factor^(n-1)`, at most `maxSeconds`, and up to a tenth more."""

    initial_seconds: Seconds = 5
    factor: Annotated[int, Meta(ge=1, le=10)] = 2
    max_seconds: Seconds = 300


class TaskRetry(Wire, frozen=True, kw_only=True):
    """Further attempts: after failures of the task's own, and, counted apart, after what the cluster did to its pod."""

    limit: Annotated[int, Meta(ge=0, le=100)] = 0
    backoff: Backoff = Backoff()
    max_infrastructure_restarts: Counted = 10


class Execution(Wire, frozen=True, kw_only=True):
    """How the runner works; what is set here wins over the pod's environment."""

    threading: PluginName = "async"
    at_most_once: bool = False
    """An attempt of unknown fate is never run again."""
    max_concurrent_steps: Annotated[int, Meta(ge=1, le=64)] = 10
    """Steps and items of `forEach` at once, in all."""
    max_concurrent_by_kind: Annotated[dict[str, Annotated[int, Meta(ge=1, le=64)]], Meta(max_length=16)] = {}
    """Fewer for some kinds, as `{exec: 1}`."""
    max_workers: Annotated[int, Meta(ge=1, le=256)] | None = None
    max_processes: Annotated[int, Meta(ge=1, le=64)] | None = None
    cpu_threads: Annotated[int, Meta(ge=1, le=256)] | None = None
    gpu_memory_percent: Annotated[int, Meta(ge=1, le=100)] | None = None


class AgentTaskSpec(Wire, frozen=True, kw_only=True):
    """What is to be done."""

    params: Annotated[dict[str, Annotated[str, Meta(max_length=8192)]], Meta(max_length=64)] = {}
    inputs: Annotated[tuple[Input, ...], Meta(max_length=32)] = ()
    steps: Annotated[tuple[Step, ...], Meta(min_length=1, max_length=64)]
    output: Template | None = None
    queue: StepName = "default"
    priority: Priority = 0
    suspend: bool = False
    cancel: bool = False
    managed_by: ControllerName | None = None
    """Another controller's task: this one leaves it alone."""
    workspace: Workspace = Workspace()
    device: Device = Device()
    execution: Execution = Execution()
    pod: PodOptions = PodOptions()
    retry: TaskRetry = TaskRetry()
    pending_deadline_seconds: Seconds = 3600
    soft_deadline_seconds: Seconds | None = None
    """Of running: then no step starts, what runs may end until the active deadline, and the attempt ends `SoftDeadlineReached`."""
    active_deadline_seconds: Seconds = 3600
    """Of running, summed over all attempts."""
    ttl_seconds_after_finished: Annotated[int, Meta(ge=0, le=31_536_000)] | None = None


class Observed(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of what the controller writes: unknown fields (of a newer version) are skipped when read."""


class Verdict(Observed, frozen=True, kw_only=True, rename={"class_": "class"}):
    """What the strategy said of one device class."""

    class_: str = ""
    verdict: str = ""


class TriedClass(Observed, frozen=True, kw_only=True, rename={"class_": "class"}):
    """A device class that an attempt gave up."""

    class_: str = ""
    attempt: int = 0
    verdict: str = ""


class DeviceStatus(Observed, frozen=True, kw_only=True, rename={"class_": "class"}):
    """The device class the pod got, why, and what else was considered."""

    class_: str = ""
    reason: str = ""
    considered: tuple[Verdict, ...] = ()
    tried: tuple[TriedClass, ...] = ()
    """What was given up in this round: no attempt gets it again before all others were tried."""
    rounds: int = 0
    """How often all classes were tried; each time an attempt waits twice as long for a node."""


class StepStatus(Observed, frozen=True, kw_only=True):
    """One step's progress."""

    name: str
    phase: StepPhase = StepPhase.PENDING
    tries: int = 0
    """How often the step was tried, with `retry` only; all items together."""
    items: str | None = None
    """Of `forEach`: ended/all, as `3/5`."""
    started_at: str | None = None
    finished_at: str | None = None
    message: str | None = None


class UsageStatus(Observed, frozen=True, kw_only=True):
    """Model calls and tokens, summed over all steps."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cost: str | None = None
    """By the models' prices, as `0.0123 USD`; several currencies are joined by ` + `."""


OutputKind = Literal["AgentTaskRecord", "ObjectStore"]


class OutputRef(Observed, frozen=True, kw_only=True):
    """Where an output lies that is too large for the status: an AgentTaskRecord's field, or `<name>/<key>` in an object store."""

    kind: OutputKind
    name: str = ""
    key: str = ""
    size: int | None = None
    """Of an object, in bytes."""
    sha256: str | None = None
    """Of an object, in hexadecimal digits."""


class AgentTaskStatus(Observed, frozen=True, kw_only=True):
    """Where the task stands; the conditions are the truth, `phase` is derived from them."""

    observed_generation: int = 0
    phase: Phase | None = None
    reason: str | None = None
    message: str | None = None
    conditions: tuple[Condition, ...] = ()
    attempt: int = 0
    """The number of the last pod."""
    ended_attempts: int = 0
    """How many attempts are over; the next pod has the number after it."""
    failures: int = 0
    infrastructure_restarts: int = 0
    active_seconds: int = 0
    """Of ended attempts together, rounded up."""
    next_attempt_time: str | None = None
    """Until then the task backs off."""
    queue_position: int | None = None
    pod_name: str | None = None
    node_name: str | None = None
    device: DeviceStatus | None = None
    progress: str | None = None
    models: str | None = None
    steps: tuple[StepStatus, ...] = ()
    output: str | None = None
    output_ref: OutputRef | None = None
    usage: UsageStatus | None = None
    trace_id: str | None = msgspec.field(name="traceID", default=None)
    start_time: str | None = None
    completion_time: str | None = None


class AgentTask(Struct, frozen=True, kw_only=True, rename="camel"):
    """One task as the API server stores it; fields we do not know are skipped."""

    metadata: ObjectMeta
    spec: AgentTaskSpec
    status: AgentTaskStatus = AgentTaskStatus()
