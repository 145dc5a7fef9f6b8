import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask.telemetry import ids
from agenttask.telemetry.ids import SpanRef, parse_traceparent, span_id, span_ref, trace_id

UID = "0b6c6a9e-7d0f-4f5e-9d55-5d8f7f4c1e11"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_ids_are_those_of_the_design_and_never_change():
    assert trace_id(UID) == hashlib.sha256(f"trace{UID}".encode()).hexdigest()[:32]
    assert span_id(UID, 2, "pod") == hashlib.sha256(f"span/{UID}/2/pod".encode()).hexdigest()[:16]


def test_an_attempt_and_a_name_each_make_another_span():
    assert len({span_id(UID, attempt, name) for attempt in range(4) for name in ("task", "pod", "run")}) == 12


@given(st.text(), st.integers(0, 1000), st.text())
def test_every_uid_gives_ids_that_travel_in_a_traceparent(uid, attempt, name):
    ref = span_ref(uid, attempt, name)
    assert parse_traceparent(ref.traceparent()) == ref


def test_a_digest_of_zeros_is_no_id():
    assert ids._valid(bytes(8)) == b"\0\0\0\0\0\0\0\x01"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(f"00-{TRACE}-{SPAN}-01", SpanRef(TRACE, SPAN, True), id="sampled"),
        pytest.param(f" 00-{TRACE}-{SPAN}-00\n", SpanRef(TRACE, SPAN, False), id="not sampled, with blanks"),
        pytest.param(f"00-{TRACE}-{SPAN}-03", SpanRef(TRACE, SPAN, True), id="other flags"),
        pytest.param(f"01-{TRACE}-{SPAN}-01-more", SpanRef(TRACE, SPAN, True), id="later version with more parts"),
        pytest.param(None, None, id="absent"),
        pytest.param("", None, id="empty"),
        pytest.param(f"00-{TRACE}-{SPAN}-01-more", None, id="version 0 with more parts"),
        pytest.param(f"ff-{TRACE}-{SPAN}-01", None, id="forbidden version"),
        pytest.param(f"00-{'0' * 32}-{SPAN}-01", None, id="no trace"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", None, id="no span"),
        pytest.param(f"00-{TRACE.upper()}-{SPAN}-01", None, id="upper case"),
        pytest.param(f"00-{TRACE}-{SPAN}", None, id="no flags"),
        pytest.param("garbage\n" * 10, None, id="garbage"),
    ],
)
def test_a_traceparent_is_read_strictly(text, expected):
    assert parse_traceparent(text) == expected


@given(st.text(alphabet="0123456789abcdef-\n", max_size=80))
def test_no_text_makes_the_reader_raise(text):
    parse_traceparent(text)
