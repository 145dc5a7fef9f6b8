"""The pure parts: fields, the watch over a connection, the allowance, the memory of origins, TLS contexts."""

import ssl
from pathlib import Path

import pytest
from h2.connection import H2Connection
from h2.events import DataReceived, StreamReset
from hpack import NeverIndexedHeaderTuple
from hyperframe.frame import DataFrame, GoAwayFrame
from multidict import CIMultiDict

from agenttask.api.errors import InvalidTask
from agenttask.runner.http2.allowance import Allowance
from agenttask.runner.http2.errors import MalformedAnswer
from agenttask.runner.http2.fields import as_headers, reason_of, request_fields, status_of
from agenttask.runner.http2.framing import Framing
from agenttask.runner.http2.liveness import Liveness, Verdict
from agenttask.runner.http2.origins import Http1Origins
from agenttask.runner.http2.settings import Http2Settings
from agenttask.runner.http2.tls import TlsContexts


def test_fields_go_out_in_lower_case_without_those_of_the_connection() -> None:
    headers = CIMultiDict(
        {
            "Host": "h:1",
            "X-A": " a ",
            "Connection": "keep-alive, X-Hop",
            "X-Hop": "1",
            "Transfer-Encoding": "chunked",
            "TE": "trailers",
            "Authorization": "s",
        }
    )
    headers.add("X-A", "b")
    fields = request_fields("GET", "https", "/p?q", headers)
    assert fields == [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":authority", b"h:1"),
        (b":path", b"/p?q"),
        (b"x-a", b"a"),
        (b"authorization", b"s"),
        (b"x-a", b"b"),
    ]
    assert [type(field) is NeverIndexedHeaderTuple for field in fields] == [False] * 5 + [True, False]


def test_an_answers_fields_keep_bytes_that_are_no_text() -> None:
    status, fields = status_of([(b":status", b"200"), (b"x", b"\xff"), (b"x", b"b")])
    headers = as_headers(fields)
    assert (status, headers.getall("X")) == (200, ["\udcff", "b"])
    assert (reason_of(404), reason_of(799)) == ("Not Found", "")


@pytest.mark.parametrize(
    "raw",
    [
        [],
        [(b"x", b"1"), (b":status", b"200")],
        [(b":status", b"2000")],
        [(b":status", b"abc")],
        [(b":status", b"099")],
        [(b":status", b"200"), (b"", b"x")],
    ],
    ids=["none", "late", "long", "letters", "low", "no name"],
)
def test_an_answer_without_a_proper_status_is_malformed(raw: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(MalformedAnswer):
        status_of(raw)


SETTINGS = Http2Settings(ping_after_seconds=10, ping_seconds=5, idle_seconds=60, max_age_seconds=1000, suspect_seconds=1)


def test_silence_is_asked_about_and_then_is_death() -> None:
    live = Liveness(SETTINGS, 0)
    assert live.verdict(9, busy=True) is Verdict.NOTHING
    assert live.look_again(9, busy=True) == 10
    assert live.verdict(10, busy=True) is Verdict.PING
    live.pinged(10)
    assert live.verdict(14, busy=True) is Verdict.NOTHING
    assert live.look_again(14, busy=True) == 15
    assert live.verdict(15, busy=True) is Verdict.DEAD


def test_any_byte_is_a_sign_of_life() -> None:
    live = Liveness(SETTINGS, 0)
    live.pinged(10)
    live.received(12)
    assert live.verdict(20, busy=True) is Verdict.NOTHING
    assert live.look_again(20, busy=True) == 22


def test_an_idle_connection_is_left_and_an_old_one_too() -> None:
    live = Liveness(SETTINGS, 0)
    assert live.verdict(59, busy=False) is Verdict.NOTHING
    assert live.look_again(59, busy=False) == 60
    assert live.verdict(60, busy=False) is Verdict.IDLE
    live.idle(100)
    assert live.verdict(120, busy=False) is Verdict.NOTHING
    live.received(995)
    assert live.verdict(1000, busy=True) is Verdict.OLD
    assert live.look_again(996, busy=True) == 1000


def test_a_request_given_up_in_silence_is_a_suspicion_until_a_byte_comes() -> None:
    live = Liveness(SETTINGS, 0)
    assert not live.given_up(sent=4.5, now=5)
    assert not live.suspect
    assert live.given_up(sent=4, now=5)
    assert live.suspect
    live.pinged(5)
    assert not live.given_up(sent=4, now=6)  # asked already
    live.received(6)
    assert not live.suspect


def test_the_allowance_refills_with_time_and_with_what_is_sent() -> None:
    allowance = Allowance(3, 1, 0)
    assert [allowance.spend(0) for _ in range(4)] == [True, True, True, False]
    assert [allowance.spend(1), allowance.spend(1)] == [True, False]
    allowance.refund(2)
    assert [allowance.spend(1) for _ in range(3)] == [True, True, False]
    assert [allowance.spend(1000) for _ in range(4)] == [True, True, True, False]


def test_http1_is_remembered_for_a_while_and_not_without_bound() -> None:
    now = 0.0
    origins: Http1Origins[str] = Http1Origins(10, lambda: now)
    origins.remember("a")
    now = 5
    origins.remember("b")
    assert "a" in origins
    now = 10
    assert list(origins) == ["b"]
    origins.remember("b")
    now = 19
    assert "b" in origins
    for number in range(2000):
        origins.remember(str(number))
    assert len(list(origins)) == 1024
    assert "1999" in origins


def test_contexts_are_made_once_and_strangers_have_no_twin(tmp_path: Path) -> None:
    tls = TlsContexts()
    assert tls.offering_http2(context=True, only=False) is tls.offering_http2(context=True, only=False)
    unverified = tls.offering_http2(context=False, only=True)
    assert unverified is not None
    assert unverified.verify_mode is ssl.CERT_NONE
    assert tls.offering_http2(context=ssl.create_default_context(), only=False) is None
    broken = tmp_path / "ca.pem"
    broken.write_text("no certificate")
    for path in (broken, tmp_path / "absent.pem"):
        with pytest.raises(InvalidTask, match="cannot be read"):
            tls.trusting(str(path))


def test_the_parts_of_h2_that_framing_leans_on_are_there() -> None:
    missing = [
        name
        for name in ("_receive_frame", "_receive_goaway_frame", "_receive_data_frame", "_terminate_connection", "_get_stream_by_id")
        if not callable(getattr(H2Connection, name, None))
    ]
    framing = Framing(Http2Settings(), lambda: True)
    missing += [name for name in ("incoming_buffer", "state_machine", "encoder", "decoder") if not hasattr(framing, name)]
    missing += [name for name in ("_data",) if not hasattr(framing.incoming_buffer, name)]
    missing += [name for name in ("table_size_changes", "header_table_size") if not hasattr(framing.encoder, name)]
    assert not missing, f"h2 has changed {missing}; operator/agenttask/runner/http2/framing.py leans on them"
    framing.initiate_connection()
    before = framing.state_machine.state
    framing._receive_goaway_frame(GoAwayFrame(0, last_stream_id=1))
    assert framing.state_machine.state is before, "h2 has changed what a GOAWAY does to the connection's state"


def test_a_body_of_the_wrong_length_resets_its_stream_and_gives_the_window_back() -> None:
    framing = Framing(Http2Settings(), lambda: True)
    framing.initiate_connection()
    framing.send_headers(1, request_fields("GET", "http", "/", {"Host": "h"}), end_stream=True)
    framing.receive_data(b"\0\0\0\x04\0\0\0\0\0" + b"\0\0\x05\x01\x04\0\0\0\x01\x88\x0f\x0d\x01" + b"2")
    data, reset = framing.receive_data(DataFrame(1, b"abc").serialize())
    assert isinstance(data, DataReceived)
    assert data.flow_controlled_length == 3
    assert isinstance(reset, StreamReset)
    assert not reset.remote_reset
