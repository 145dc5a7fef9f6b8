"""What the API server can answer to a request besides success, as a tree; a class says whether trying again may help.

KubeError                 any other refusal
├── Conflict              409: written by someone else meanwhile, or another uid; look again, then decide again
├── AlreadyExists         409 on POST: the name is taken; adopt it or refuse it
├── NotFound              404
├── Gone                  410, reason Expired or Gone: the resourceVersion or page is too old; list again
├── Forbidden             403: no right, a quota, Pod Security, or a namespace that is being deleted
├── Unauthorized          401: the token is refused
├── Invalid               400, 413, 422: the body is wrong
├── TooManyRequests       429: wait for `retry_after` seconds
├── ServerError           5xx; a write may have been applied
└── Unreachable           refused, reset, timed out; whether a write was applied is unknown
"""

from typing import ClassVar

import msgspec
from msgspec import Struct


class KubeError(Exception):
    """Base of all; `status` is the HTTP status (0: no answer), `reason` metav1.Status.reason, `message` for a person."""

    retryable: ClassVar[bool] = False
    """Whether the same intention may succeed later with nobody changing anything on purpose."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}" if status else f"{reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class Conflict(KubeError):
    """The precondition (resourceVersion or uid) does not hold any more."""

    retryable = True


class AlreadyExists(KubeError):
    """An object of this name exists."""


class NotFound(KubeError):
    """There is no such object, or no such resource."""


class Gone(KubeError):
    """The resourceVersion or the continue token is older than what the server keeps."""

    retryable = True


class Forbidden(KubeError):
    """A right is missing, or admission (quota, Pod Security, a namespace being deleted) refuses."""


class Unauthorized(KubeError):
    """The token is refused; it may just be rotating."""

    retryable = True


class Invalid(KubeError):
    """The body or the query is malformed or breaks a validation rule."""


class TooManyRequests(KubeError):
    """The server asks to wait; `retry_after` in seconds, if it said how long."""

    retryable = True

    def __init__(self, status: int, reason: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(status, reason, message)
        self.retry_after = retry_after


class ServerError(KubeError):
    """The server failed; it may have applied a write before."""

    retryable = True


class Unreachable(KubeError):
    """No answer came: refused, reset, timed out. Whether a write was applied is unknown."""

    retryable = True

    def __init__(self, message: str) -> None:
        super().__init__(0, "Unreachable", message)


class _Details(Struct, frozen=True, rename="camel"):
    retry_after_seconds: int = 0


class _Status(Struct, frozen=True):
    """metav1.Status, as far as we read it."""

    reason: str = ""
    message: str = ""
    code: int = 0
    details: _Details | None = None


_decode = msgspec.json.Decoder(_Status).decode
_BY_STATUS: dict[int, type[KubeError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    413: Invalid,
    422: Invalid,
}
_SHOWN = 500
"""Characters of a body that is no Status kept for the message: a proxy may answer with a whole HTML page."""


def from_answer(status: int, body: bytes | msgspec.Raw, *, retry_after: str | None = None) -> KubeError:
    """The error for an answer; `body` is a metav1.Status, or what a proxy on the way wrote; `status` 0 takes the body's own code."""
    try:
        told = _decode(body)
    except msgspec.MsgspecError:
        told = _Status(message=bytes(body)[:_SHOWN].decode(errors="replace"))
    status = status or told.code
    reason, message = told.reason or "Unknown", told.message or "no message"
    if status == 429:
        return TooManyRequests(status, reason, message, retry_after=_seconds(retry_after, told.details))
    if status >= 500:
        return ServerError(status, reason, message)
    if told.reason == "AlreadyExists":
        return AlreadyExists(status, reason, message)
    if told.reason in ("Expired", "Gone"):
        return Gone(status, reason, message)
    return _BY_STATUS.get(status, KubeError)(status, reason, message)


def _seconds(header: str | None, details: _Details | None) -> float | None:
    """The server's wish: the header first, else the body's; an HTTP date is none of the API server's forms."""
    if header is not None and header.strip().isdecimal():
        return float(header)
    return float(details.retry_after_seconds) if details is not None and details.retry_after_seconds else None
