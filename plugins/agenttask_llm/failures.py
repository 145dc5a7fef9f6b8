"""From what an endpoint answers to a typed error; no message holds the credential, even when the server sends it back."""

from collections.abc import Mapping

import msgspec

from agenttask.api.document import ModelDocument
from agenttask.api.errors import AgentTaskError, ModelRejected, ModelUnavailable, RateLimited
from agenttask.api.report import shorten
from agenttask.domain.retry_after import retry_after
from agenttask_llm.wire import WireError, WireFailure

_MESSAGE_CHARACTERS = 300
_HINTS = {
    401: "; check the credential that `credentials.secretKeyRef` names",
    403: "; the credential does not allow this model",
    404: "; check `endpoint` (it ends before /chat/completions) and `model`",
}


def failure_of(
    model: ModelDocument, status: int, headers: Mapping[str, str], body: bytes, *, credential: str | None, now: float
) -> AgentTaskError:
    """The error of an answer whose status is not 200.

    Args:
        model: whom we asked.
        status: the HTTP status.
        headers: for Retry-After.
        body: the beginning of the body.
        credential: what must not appear.
        now: Unix seconds, for a Retry-After that is a date.
    """
    said = _shown(_said(body), credential)
    what = f"model {model.name!r}: {model.endpoint} answered {status}{f': {said}' if said else ''}"
    if status == 429:
        return RateLimited(what, retry_after=retry_after(headers.get("Retry-After"), now))
    if status >= 500 or status == 408:
        return ModelUnavailable(what)
    if 300 <= status < 400:
        return ModelRejected(
            f"model {model.name!r}: {model.endpoint} answered {status}; redirects are not followed, set `endpoint` to where it leads"
        )
    return ModelRejected(f"{what}{_HINTS.get(status, '')}")


def stream_failure(model: ModelDocument, error: WireError | str, credential: str | None) -> AgentTaskError:
    """The error that a stream ended with after it had begun well."""
    message, code = (error, None) if isinstance(error, str) else (error.message, error.code)
    what = f"model {model.name!r}: {model.endpoint} broke off with an error: {_shown(message, credential)}"
    number = int(code) if isinstance(code, int) or (isinstance(code, str) and code.isdigit()) else 0
    if number == 429:
        return RateLimited(what)
    return ModelUnavailable(what) if number >= 500 else ModelRejected(what)


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


def _shown(text: str, credential: str | None) -> str:
    """One short line; covered before it is cut, or half of a credential would be no match."""
    return shorten(" ".join(covered(text, credential).split()), _MESSAGE_CHARACTERS)
