"""How a request to the gateway ends without its answer.

GatewayError
├── GatewayUnavailable   no replica took it in the time that there was; later one may
├── GatewayRefused       malformed, no valid token, or an answer that is none: the same again ends the same
├── QuotaExceeded        the namespace takes no further record: whoever needs one may wait
├── RecordTooLarge       checkpoint and output of the task do not fit their record together
└── Fenced               the attempt is over for the controller: the run has to stop
"""

from agenttask.api.errors import Interrupted


class GatewayError(Exception):
    """Base of all; `str(error)` is for the log."""


class GatewayUnavailable(GatewayError):
    """Every address failed until the time was over; the message has the last problem of each."""


class GatewayRefused(GatewayError):
    """The controller does not want this request."""


class QuotaExceeded(GatewayError):
    """A quota has no room for the task's record; `retry_after` is in seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RecordTooLarge(GatewayError):
    """The body does not fit (413)."""


class Fenced(GatewayError, Interrupted):
    """Another attempt runs by now, or the task has ended: nothing that this one does counts any more."""
