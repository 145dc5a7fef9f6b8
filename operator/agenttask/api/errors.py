"""The errors that reach a user, as a tree; a class says whether trying again may help and which reason status shows.

AgentTaskError
├── PermanentError            the same input fails again
│   ├── InvalidTask           the task contradicts itself or the installation's rules
│   │   └── InvalidTemplate   a template outside the allowed subset, or naming something unknown
│   ├── UnknownPlugin         a name that no plugin registered
│   ├── StepFailed            a step's own failure: exit code, missing file, time-out
│   │   └── OutOfMemory       a process was killed for its memory
│   ├── ModelRejected         the endpoint refused, or answered garbage
│   ├── DeviceUnavailable     the device insisted on is not there
│   ├── DeadlineExceeded      the task's time is over
│   ├── PodRejected           the pod that would be made leaves the rules
│   ├── OutputRejected        a quota or the object store refused the output, or the store cannot be used as it is set up
│   └── OutputTooLarge        larger than the channel holds
└── RetryableError            the same input may succeed later
    ├── ServiceUnavailable    the same of a host that a `fetch` or `git` step talks to
    ├── ModelUnavailable      refused connection, time-out, server error
    │   └── RateLimited       429
    ├── NotHandedOver         the controller, or the object store, was away when the output was to be left there
    └── NoTimeLeft            nothing new starts any more
        ├── SoftDeadlineReached  no time for another step
        └── Interrupted          the runner is stopping
"""

from typing import ClassVar, Self

from agenttask.api.reasons import Reason


class AgentTaskError(Exception):
    """Base of all; `reason` is what status shows, `str(error)` is the message for a person."""

    reason: ClassVar[Reason] = Reason.STEP_FAILED
    retryable: ClassVar[bool] = False


class PermanentError(AgentTaskError):
    """The same input fails again."""


class InvalidTask(PermanentError):
    """The task contradicts itself or the installation's rules; `field` is the path, as `spec.steps[0].chat.prompt`."""

    reason = Reason.INVALID_TASK

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field
        self.problem = problem

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        """Pickled by what it is made of: it may come from another process."""
        return type(self), (self.field, self.problem)


class InvalidTemplate(InvalidTask):
    """A template does not parse, leaves the allowed subset, or names an unknown step or param."""

    reason = Reason.INVALID_TEMPLATE


class UnknownPlugin(PermanentError):
    """A name that no plugin registered; the message lists the known names and the nearest."""

    reason = Reason.UNKNOWN_PLUGIN


class StepFailed(PermanentError):
    """A step failed by itself."""

    reason = Reason.STEP_FAILED


class OutOfMemory(StepFailed):
    """A process of the step was killed for its memory."""

    reason = Reason.OUT_OF_MEMORY


class ModelRejected(PermanentError):
    """The endpoint refused the request or its answer is no answer."""

    reason = Reason.MODEL_REJECTED


class DeviceUnavailable(PermanentError):
    """The device that was insisted on is not there."""

    reason = Reason.DEVICE_UNAVAILABLE


class DeadlineExceeded(PermanentError):
    """The task ran longer than `activeDeadlineSeconds`."""

    reason = Reason.DEADLINE_EXCEEDED


class PodRejected(PermanentError):
    """The pod that would be made leaves the rules of `verify`, or the API server refused it."""

    reason = Reason.POD_REJECTED


class OutputRejected(PermanentError):
    """A quota has no room for the output's record, or the object store refused it or cannot be used as the installation set it up."""

    reason = Reason.OUTPUT_REJECTED


class OutputTooLarge(PermanentError):
    """Something is larger than its channel holds."""

    reason = Reason.OUTPUT_TOO_LARGE


class RetryableError(AgentTaskError):
    """The same input may succeed later; `retry_after` is when a server wishes to be asked again, in seconds, if it said so."""

    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ServiceUnavailable(RetryableError):
    """A host that a step talks to cannot be reached, timed out, or failed with a server error."""

    reason = Reason.STEP_FAILED


class ModelUnavailable(RetryableError):
    """The endpoint cannot be reached, timed out, or failed with a server error."""

    reason = Reason.MODEL_UNAVAILABLE


class RateLimited(ModelUnavailable):
    """Too many requests."""

    reason = Reason.RATE_LIMITED


class NoTimeLeft(RetryableError):
    """Nothing new starts; what runs may end, and is no failure."""


class SoftDeadlineReached(NoTimeLeft):
    """The task's soft deadline passed before all steps were done."""

    reason = Reason.SOFT_DEADLINE_REACHED


class NotHandedOver(RetryableError):
    """A finished run could not leave its output with the controller or the object store, which was away: the attempt is lost with it."""

    reason = Reason.LOST


class Interrupted(NoTimeLeft):
    """The runner was asked to stop (SIGTERM) before the step ended."""

    reason = Reason.LOST
