"""The headers of a `fetch`: what the task gives, with its secrets, and the type of the body where it names none."""

from collections.abc import Mapping

import msgspec

from agenttask.api.errors import InvalidTask
from agenttask_steps.rendered import RenderedFetch

_OURS = frozenset(
    {"connection", "content-length", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
    | {"proxy-authorization", "proxy-connection"}
)
"""They belong to the connection; a task that sets them could split the request, or reach another host behind the checked one."""


def request_headers(config: RenderedFetch, secrets: Mapping[str, str]) -> dict[str, str]:
    """Names and values to send.

    Raises:
        InvalidTask: a header is not for the task to set, has no or two values, or one that would end the line.
    """
    headers: dict[str, str] = {}
    for index, header in enumerate(config.headers):
        field, name = f"fetch.headers[{index}]", header.name
        if name.lower() in _OURS:
            raise InvalidTask(field, f"{name!r} is set by the connection, and not by a task")
        if name.lower() in {other.lower() for other in headers}:
            raise InvalidTask(field, f"{name!r} is given twice")
        if (header.value is None) == (header.secret_key_ref is None):
            raise InvalidTask(field, f"{name!r} needs exactly one of `value` and `secretKeyRef`")
        value = header.value
        if value is None:
            if name not in secrets:
                raise InvalidTask(field, f"the secret for {name!r} was not handed to this step")
            value = secrets[name].rstrip("\r\n")  # a file that was made a Secret ends with a line break
        if any(letter in value for letter in "\r\n\0"):
            raise InvalidTask(field, f"the value of {name!r} holds a line break or NUL; no header can")
        headers[name] = value
    if config.body and "content-type" not in {name.lower() for name in headers}:
        headers["Content-Type"] = "application/json" if _is_json(config.body) else "text/plain; charset=utf-8"
    return headers


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return False
    return True
