"""Header fields between aiohttp and HTTP/2: names in lower case, no connection-specific ones, nothing that splits a line.

Pure functions. What comes in is checked here and not by `h2`, so that one bad answer costs one stream.
"""

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus

from hpack import NeverIndexedHeaderTuple
from multidict import CIMultiDict

from agenttask.runner.http2.errors import MalformedAnswer

Field = tuple[bytes, bytes]
RawFields = list[Field]

_OF_THE_CONNECTION = frozenset(
    {"connection", "host", "http2-settings", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"}
)
_SECRET = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key", "api-key"})
"""Never put into a compression table, where a guess of them would show by its length."""
_NEVER_ANSWERED = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_ANSWERED_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_SPLITS_A_LINE = re.compile("[\0\r\n]")
_SPLITS_AN_ANSWERED_LINE = re.compile(rb"[\0\r\n]")


def request_fields(method: str, scheme: str, path: str, headers: Mapping[str, str]) -> RawFields:
    """The fields of a request, the pseudo-fields first; `Host` becomes the authority.

    Raises:
        ValueError: a name or value that would not be one field.
    """
    if re.search(r"[^!-~]", headers["Host"]):
        raise ValueError(f"the Host header {headers['Host']!r} has a character that no host may have")
    fields: RawFields = [
        (b":method", method.encode("ascii")),
        (b":scheme", scheme.encode("ascii")),
        (b":authority", headers["Host"].encode("ascii")),
        (b":path", path.encode("ascii")),
    ]
    named = {name.strip().lower() for name in headers["Connection"].split(",")} if "Connection" in headers else ()
    for name, value in headers.items():
        lower = name.lower()
        if lower in _OF_THE_CONNECTION or lower in named:
            continue
        if not _NAME.fullmatch(lower):
            raise ValueError(f"the header name {name!r} has a character that no name may have")
        if _SPLITS_A_LINE.search(value):
            raise ValueError(f"the value of header {name!r} has a line break or a null byte; header values are one line")
        pair = lower.encode("ascii"), value.strip(" \t").encode("utf-8", "surrogateescape")
        fields.append(NeverIndexedHeaderTuple(*pair) if lower in _SECRET else pair)
    return fields


def status_of(raw: Iterable[tuple[bytes, bytes]]) -> tuple[int, RawFields]:
    """The status of an answer, and its other fields.

    Raises:
        MalformedAnswer: no status or several, or a field that HTTP/2 does not allow.
    """
    status: int | None = None
    fields: RawFields = []
    for name, value in raw:
        if name == b":status" and status is None and not fields and len(value) == 3 and value.isdigit() and value[:1] != b"0":
            status = int(value)
        else:
            _check(name, value)
            fields.append((name, value))
    if status is None:
        raise MalformedAnswer("the answer has no status")
    return status, fields


def _check(name: bytes, value: bytes) -> None:
    if not _ANSWERED_NAME.fullmatch(name) or name in _NEVER_ANSWERED:
        raise MalformedAnswer(f"the answer has a field {name[:80]!r}, which HTTP/2 does not allow")
    if _SPLITS_AN_ANSWERED_LINE.search(value):
        raise MalformedAnswer(f"the answer's field {name[:80]!r} has a line break or a null byte in its value")


def as_headers(fields: RawFields) -> CIMultiDict[str]:
    """As aiohttp keeps them: bytes that are no UTF-8 survive as surrogates."""
    return CIMultiDict((name.decode("ascii"), value.decode("utf-8", "surrogateescape")) for name, value in fields)


def reason_of(status: int) -> str:
    """HTTP/2 sends no reason phrase; the usual one."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
