"""From what an endpoint answers to a typed error; no message holds the credential, even when the server sends it back."""

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from agenttask.api.document import ModelDocument
from agenttask.api.errors import AgentTaskError, ModelRejected, ModelUnavailable, RateLimited
from agenttask.api.report import shorten
from agenttask.domain.retry_after import retry_after

_MESSAGE_CHARACTERS = 300
_HINTS = {
    401: "; check the credential that `credentials.secretKeyRef` names",
    403: "; the credential does not allow this model",
    404: "; check `endpoint` (it ends before {path}) and `model`",
}
_TIMED_OUT, _TOO_MANY = 408, 429
_MALFORMED = (400, 422)
_RATE_LIMITED = ("rate_limit_error", "rate_limit_exceeded")
_UNAVAILABLE = ("overloaded_error", "api_error", "timeout_error", "server_error")
"""Words that endpoints use where there is no status: in the middle of a stream."""


class WireError(Struct, frozen=True, kw_only=True):
    """What went wrong, in the words of the endpoint; `code` is a word or a number, as it likes."""

    message: str = ""
    code: str | int | None = None
    type: str | None = None


class WireFailure(Struct, frozen=True, kw_only=True):
    """The body of an error status, in the shapes that servers use."""

    error: WireError | str | None = None
    message: str | None = None
    detail: str | None = None


def failure_of(
    model: ModelDocument,
    endpoint: str,
    path: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    credential: str | None,
    now: float,
    hint: str = "",
) -> AgentTaskError:
    """The error of an answer whose status is not 200.

    Args:
        model: whom we asked.
        endpoint: the base URL.
        path: what we asked it for.
        status: the HTTP status.
        headers: for Retry-After.
        body: the beginning of the body.
        credential: what must not appear.
        now: Unix seconds, for a Retry-After that is a date.
        hint: the remedy where the request was refused as such (400, 422).
    """
    said = shown(_said(body), credential)
    what = f"model {model.name!r}: {endpoint} answered {status}{f': {said}' if said else ''}"
    wish = retry_after(headers.get("Retry-After"), now)
    if status == _TOO_MANY:
        return RateLimited(what, retry_after=wish)
    if status >= 500 or status == _TIMED_OUT:
        return ModelUnavailable(what, retry_after=wish)
    if 300 <= status < 400:
        return ModelRejected(
            f"model {model.name!r}: {endpoint} answered {status}; redirects are not followed, set `endpoint` to where it leads"
        )
    return ModelRejected(what + (hint if status in _MALFORMED else _HINTS.get(status, "").format(path=path)))


def stream_failure(model: ModelDocument, endpoint: str, error: WireError | str, credential: str | None) -> AgentTaskError:
    """The error that an answer turned out to be after its status was 200."""
    if isinstance(error, str):
        error = WireError(message=error)
    what = f"model {model.name!r}: {endpoint} broke off with an error: {shown(error.message or error.type or '', credential)}"
    number = int(error.code) if isinstance(error.code, int) or (isinstance(error.code, str) and error.code.isdigit()) else 0
    words = {error.type, error.code}
    if number == _TOO_MANY or words.intersection(_RATE_LIMITED):
        return RateLimited(what)
    return ModelUnavailable(what) if number >= 500 or words.intersection(_UNAVAILABLE) else ModelRejected(what)


def covered(text: str, credential: str | None) -> str:
    """`text` without the credential."""
    return text.replace(credential, "***") if credential else text


def _said(body: bytes) -> str:
    """The server's own message."""
    try:
        failure = msgspec.json.decode(body, type=WireFailure)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return body.decode("utf-8", "replace")
    error = failure.error
    message = error.message if isinstance(error, WireError) else error
    return message or failure.message or failure.detail or ""


def shown(text: str, credential: str | None) -> str:
    """One short line; covered before it is cut, or half of a credential would be no match."""
    return shorten(" ".join(covered(text, credential).split()), _MESSAGE_CHARACTERS)
