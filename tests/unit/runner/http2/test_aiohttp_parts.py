"""The private parts of aiohttp that HTTP/2 leans on: where a new aiohttp has changed one, this says which, and what for."""

import inspect
from collections.abc import Callable

import aiohttp
import pytest
from aiohttp import ClientRequest, ClientResponse, StreamReader, TCPConnector
from aiohttp.client import ClientSession
from aiohttp.http_parser import DeflateBuffer
from aiohttp.tracing import Trace
from multidict import CIMultiDict

from agenttask.runner.http2.aiohttp_parts import ResponseParameters, head
from agenttask.runner.http2.answer import Answer, Lease

WHAT_TO_DO = (
    f"aiohttp {aiohttp.__version__} has changed {{}}; operator/agenttask/runner/http2/aiohttp_parts.py leans on it: "
    "adapt that module, or keep aiohttp below this version in pyproject.toml"
)


def parameters(function: Callable[..., object]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (ClientRequest, ["send", "write_bytes", "close", "_get_content_length", "skip_auto_headers", "connection_key", "POST_METHODS"]),
        (ClientRequest, ["_continue", "_upload_tracker", "_upload_gen", "_writer", "is_ssl", "ssl"]),
        (ClientResponse, ["start", "_response_eof", "_release_connection"]),
        (TCPConnector, ["connect", "_create_direct_connection", "_get_ssl_context", "_wrap_create_connection", "close"]),
        (StreamReader, ["feed_data", "feed_eof", "set_exception", "on_eof"]),
        (DeflateBuffer, ["feed_data", "feed_eof"]),
        (aiohttp.UploadTracker, ["_attempt_finished"]),
        (Trace, ["send_request_headers", "send_request_chunk_sent", "send_connection_create_start", "send_connection_create_end"]),
        (Trace, ["send_connection_queued_start", "send_connection_queued_end", "send_connection_reuseconn"]),
    ],
)
def test_what_is_leaned_on_is_there(owner: type, names: list[str]) -> None:
    missing = [f"{owner.__name__}.{name}" for name in names if not hasattr(owner, name)]
    assert not missing, WHAT_TO_DO.format(", ".join(missing))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (ClientRequest.send, ["conn"]),
        (ClientRequest.write_bytes, ["writer", "conn", "content_length"]),
        (ClientResponse.start, ["connection"]),
        (TCPConnector.connect, ["req", "traces", "timeout"]),
        (TCPConnector._create_direct_connection, ["req", "traces", "timeout", "client_error"]),
        (TCPConnector._wrap_create_connection, ["args", "addr_infos", "req", "timeout", "client_error", "kwargs"]),
        (TCPConnector._get_ssl_context, ["req"]),
        (StreamReader.__init__, ["protocol", "limit", "timer", "loop"]),
        (DeflateBuffer.__init__, ["out", "encoding", "max_decompress_size"]),
        (DeflateBuffer.feed_data, ["chunk", "size"]),
        (
            ClientResponse.__init__,
            ["method", "url", "writer", "continue100", "timer", "request_info", "traces", "loop", "session", "stream_writer"],
        ),
    ],
    ids=lambda value: getattr(value, "__qualname__", None),
)
def test_signatures_are_as_they_are_called(function: Callable[..., object], expected: list[str]) -> None:
    found = parameters(function)
    assert found == expected, WHAT_TO_DO.format(f"{function.__qualname__}({', '.join(found)})")


def test_the_handler_calls_what_a_lease_and_an_answer_have() -> None:
    source = inspect.getsource(ClientSession._request)
    for call in ("self._connector.connect(", "conn.protocol.set_response_params(", "await req.send(conn)", "await resp.start(conn)"):
        assert call in source, WHAT_TO_DO.format(f"ClientSession._request: it does not say {call!r}")
    for name in ResponseParameters.__struct_fields__:
        assert f"{name}=" in source, WHAT_TO_DO.format(f"set_response_params: {name}")
    asked = (
        "upgraded",
        "writing_paused",
        "connected",
        "transport",
        "start_timeout",
        "read",
        "pause_reading",
        "resume_reading",
        "set_exception",
    )
    assert all(hasattr(Answer, name) for name in asked)
    assert all(hasattr(Lease, name) for name in ("protocol", "transport", "closed", "add_callback", "close", "release"))


def test_the_head_of_an_answer_has_its_nine_fields() -> None:
    made = head(200, "OK", CIMultiDict({"A": "b"}), [(b"a", b"b")])
    found = (made.version, made.code, made.reason, dict(made.headers), made.raw_headers, made.should_close, made.compression)
    assert found == (aiohttp.HttpVersion(2, 0), 200, "OK", {"A": "b"}, ((b"a", b"b"),), False, None), WHAT_TO_DO.format(
        "RawResponseMessage"
    )
    assert (made.upgrade, made.chunked) == (False, False), WHAT_TO_DO.format("RawResponseMessage")
