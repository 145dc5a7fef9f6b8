"""Every phase, condition type and reason that a task can show, with the sentence that documents it.

`docs/reference/reasons.md` is generated from here; a test fails when they differ. Waiting reasons are never terminal by
themselves: they end when the missing thing appears, or at `pendingDeadlineSeconds`.
"""

from enum import StrEnum


class Phase(StrEnum):
    """A summary derived from the conditions (DESIGN.md §3)."""

    QUEUED = "Queued"
    STARTING = "Starting"
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def terminal(self) -> bool:
        """Whether the task has ended; a terminal phase never changes."""
        return self in (Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED)


class StepPhase(StrEnum):
    """Where one step stands."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SKIPPED = "Skipped"


class ConditionType(StrEnum):
    """The condition types of an AgentTask."""

    ACCEPTED = "Accepted"
    POD_READY = "PodReady"
    SUSPENDED = "Suspended"
    COMPLETE = "Complete"
    FAILED = "Failed"


class Reason(StrEnum):
    """Why a task stands where it stands; `describe()` documents each."""

    # waiting
    UNKNOWN_MODEL = "UnknownModel"
    UNKNOWN_CLASS = "UnknownClass"
    MISSING_INPUT = "MissingInput"
    WAITING_FOR_DEVICE = "WaitingForDevice"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL = "ImagePull"
    UNKNOWN_QUEUE = "UnknownQueue"
    QUEUE_PAUSED = "QueuePaused"
    QUEUE_FULL = "QueueFull"
    MODEL_BREAKER_OPEN = "ModelBreakerOpen"
    MODEL_FULL = "ModelFull"
    SCHEDULING_GATED = "SchedulingGated"
    BACKING_OFF = "BackingOff"
    SUSPENDED = "Suspended"
    # on the way
    ACCEPTED = "Accepted"
    POD_STARTING = "PodStarting"
    POD_RUNNING = "PodRunning"
    RECORD_QUOTA_EXCEEDED = "RecordQuotaExceeded"
    RESUMED = "Resumed"
    FALLING_BACK = "FallingBack"
    # terminal
    SUCCEEDED = "Succeeded"
    STEP_FAILED = "StepFailed"
    INVALID_TEMPLATE = "InvalidTemplate"
    INVALID_TASK = "InvalidTask"
    UNKNOWN_PLUGIN = "UnknownPlugin"
    MODEL_UNAVAILABLE = "ModelUnavailable"
    MODEL_REJECTED = "ModelRejected"
    RATE_LIMITED = "RateLimited"
    OUT_OF_MEMORY = "OutOfMemory"
    DEVICE_UNAVAILABLE = "DeviceUnavailable"
    IMAGE_ERROR = "ImageError"
    POD_REJECTED = "PodRejected"
    PENDING_DEADLINE_EXCEEDED = "PendingDeadlineExceeded"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    SOFT_DEADLINE_REACHED = "SoftDeadlineReached"
    OUTPUT_TOO_LARGE = "OutputTooLarge"
    OUTPUT_REJECTED = "OutputRejected"
    RUNNER_CRASHED = "RunnerCrashed"
    LOST = "Lost"
    BACKOFF_LIMIT_EXCEEDED = "BackoffLimitExceeded"
    INFRASTRUCTURE_LIMIT_EXCEEDED = "InfrastructureLimitExceeded"
    CANCELLED_BY_USER = "CancelledByUser"

    def describe(self) -> str:
        """The sentence that documents this reason."""
        return _DESCRIPTIONS[self]


WAITING_REASONS: tuple[Reason, ...] = (
    Reason.UNKNOWN_MODEL,
    Reason.UNKNOWN_CLASS,
    Reason.MISSING_INPUT,
    Reason.WAITING_FOR_DEVICE,
    Reason.UNSCHEDULABLE,
    Reason.IMAGE_PULL,
    Reason.UNKNOWN_QUEUE,
    Reason.QUEUE_PAUSED,
    Reason.QUEUE_FULL,
    Reason.MODEL_BREAKER_OPEN,
    Reason.MODEL_FULL,
    Reason.SCHEDULING_GATED,
    Reason.BACKING_OFF,
    Reason.SUSPENDED,
)
TERMINAL_REASONS: tuple[Reason, ...] = tuple(Reason)[tuple(Reason).index(Reason.SUCCEEDED) :]

_DESCRIPTIONS: dict[Reason, str] = {
    Reason.UNKNOWN_MODEL: "A step names an AgentModel that does not exist in the namespace yet; apply it and the task goes on.",
    Reason.UNKNOWN_CLASS: "`device.classes` names a device class that the installation does not define.",
    Reason.MISSING_INPUT: "A ConfigMap, PersistentVolumeClaim or Secret that the task mounts does not exist yet.",
    Reason.WAITING_FOR_DEVICE: "No wished class is free now (nodes, the queue's `devices`, quotas), or the pod's node does not prepare it.",
    Reason.UNSCHEDULABLE: "The scheduler or a quota finds no room for the pod; the message is theirs.",
    Reason.IMAGE_PULL: "The node cannot pull the pod's image yet; the message is the kubelet's.",
    Reason.UNKNOWN_QUEUE: "`spec.queue` names an AgentQueue that the namespace does not have; apply it and the task goes on.",
    Reason.QUEUE_PAUSED: "The task's AgentQueue has `paused: true`.",
    Reason.QUEUE_FULL: "The queue, or the whole installation, runs as many tasks as it may; the message has the limit.",
    Reason.MODEL_BREAKER_OPEN: "Runners report that a model's endpoint fails; no new task is sent against it until its breaker closes.",
    Reason.MODEL_FULL: "As many tasks as the limits of an AgentModel can serve run against it; the message has the numbers.",
    Reason.SCHEDULING_GATED: "The pod waits for whoever removes its scheduling gates, such as Kueue.",
    Reason.BACKING_OFF: "An attempt ended badly and the next one starts at `status.nextAttemptTime`; the message says how it ended.",
    Reason.SUSPENDED: "`spec.suspend` is true: there is no pod until it is false again.",
    Reason.ACCEPTED: "The task was validated.",
    Reason.POD_STARTING: "The pod exists and its container does not run yet.",
    Reason.POD_RUNNING: "The steps are running in the pod.",
    Reason.RECORD_QUOTA_EXCEEDED: (
        "The steps are done, and a ResourceQuota has no room for the AgentTaskRecord of a large output, which waits for it in the pod for "
        "five minutes; raise the quota, or delete finished tasks."
    ),
    Reason.RESUMED: "`spec.suspend` was taken back; the task waits for its next attempt.",
    Reason.FALLING_BACK: "The pod's device class found no node, or failed in the pod: the next attempt gets another class.",
    Reason.SUCCEEDED: "The task succeeded; `status.output` has the result.",
    Reason.STEP_FAILED: "A step failed by itself: a command's exit code, a missing file, a time-out, a missing value.",
    Reason.INVALID_TEMPLATE: "A template does not parse, or leaves the allowed subset, or names an unknown step or param.",
    Reason.INVALID_TASK: "The task contradicts itself or the installation's rules; the message names the field.",
    Reason.UNKNOWN_PLUGIN: "The task names a strategy, client or step kind that no installed plugin has; the message lists the known ones.",
    Reason.MODEL_UNAVAILABLE: "The model's endpoint cannot be reached, timed out, or failed with a server error.",
    Reason.MODEL_REJECTED: "The model's endpoint refused the request or answered something that is no answer (401, 404, garbage).",
    Reason.RATE_LIMITED: "The model's endpoint says that too many requests were made (429).",
    Reason.OUT_OF_MEMORY: "The pod or one of its processes was killed for its memory; raise `pod.resources.limits.memory`.",
    Reason.DEVICE_UNAVAILABLE: "The device that the task insists on is not there.",
    Reason.IMAGE_ERROR: "The pod's image can never run: a malformed name, a missing entry point, or `Never` to be pulled.",
    Reason.POD_REJECTED: "The API server or the node's kubelet refused the pod.",
    Reason.PENDING_DEADLINE_EXCEEDED: "The task did not start within `pendingDeadlineSeconds`; the message has what it last waited for.",
    Reason.DEADLINE_EXCEEDED: "The task ran longer than `activeDeadlineSeconds`.",
    Reason.SOFT_DEADLINE_REACHED: "The task ran into `softDeadlineSeconds`: it took no new step, and its checkpoint has what was finished.",
    Reason.OUTPUT_TOO_LARGE: "The output, or what a step hands on, is larger than its channel holds; nothing is cut silently.",
    Reason.OUTPUT_REJECTED: (
        "A quota has no room for the output's AgentTaskRecord, or the object store refused it or cannot be used as it is set up; "
        "the message has what was said."
    ),
    Reason.RUNNER_CRASHED: "The runner ended without a report; see the pod's log.",
    Reason.LOST: "The pod was deleted, evicted, or its node went away before it reported.",
    Reason.BACKOFF_LIMIT_EXCEEDED: "The task failed once more after all of `retry.limit`; the message has the last failure.",
    Reason.INFRASTRUCTURE_LIMIT_EXCEEDED: "The cluster ended more attempts than `maxInfrastructureRestarts`; the message has the last.",
    Reason.CANCELLED_BY_USER: "`spec.cancel` was set, and the task had not ended by itself before.",
}
