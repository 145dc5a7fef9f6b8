"""What the gateway answers to a request that it does not do, as a tree; each class has its HTTP status and reason.

Refused
├── Malformed      400  not what the path takes
├── Unauthorized   401  no token, or none of ours
├── Fenced         403  the attempt is over: the runner must stop
├── NotStored      404  there is no checkpoint
├── TooLarge       413  says size and limit
├── Busy           429  too many requests of one attempt, or too much at once
├── NotLeader      503  another replica answers
├── QuotaExceeded  503  a quota of the namespace takes no further record
└── Unavailable    503  the view is not complete yet, or the API server does not take it
"""

from typing import ClassVar

from agenttask.api.gateway import RefusalReason


class Refused(Exception):
    """Base of all; `retry_after` in seconds goes into the header."""

    status: ClassVar[int] = 500
    reason: ClassVar[RefusalReason] = RefusalReason.UNAVAILABLE

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Malformed(Refused):
    """The request is not what the path takes."""

    status, reason = 400, RefusalReason.MALFORMED


class Unauthorized(Refused):
    """There is no token, or none that may be believed."""

    status, reason = 401, RefusalReason.UNAUTHORIZED


class Fenced(Refused):
    """The attempt is over, for good."""

    status, reason = 403, RefusalReason.FENCED


class NotStored(Refused):
    """There is nothing stored."""

    status, reason = 404, RefusalReason.NOT_FOUND


class TooLarge(Refused):
    """More than the place holds."""

    status, reason = 413, RefusalReason.TOO_LARGE


class Busy(Refused):
    """Too many requests."""

    status, reason = 429, RefusalReason.BUSY


class NotLeader(Refused):
    """This replica does not write."""

    status, reason = 503, RefusalReason.NOT_LEADER


class QuotaExceeded(Refused):
    """A quota takes no further record: whoever can do without one does not wait."""

    status, reason = 503, RefusalReason.QUOTA_EXCEEDED


class Unavailable(Refused):
    """Later."""

    status, reason = 503, RefusalReason.UNAVAILABLE
