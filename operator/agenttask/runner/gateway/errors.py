"""How a request to the gateway ends without its answer.

GatewayError
├── GatewayUnavailable   no replica took it in the time that there was; later one may
├── GatewayRefused       malformed, no valid token, or an answer that is none: the same again ends the same
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


class RecordTooLarge(GatewayError):
    """The body does not fit (413)."""


class Fenced(GatewayError, Interrupted):
    """Another attempt runs by now, or the task has ended: nothing that this one does counts any more."""
