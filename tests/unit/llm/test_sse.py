"""Server-sent events: cut anywhere, ended in any way, bounded in every direction."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask_llm.sse import EventStream, MalformedStream

LINE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)), max_size=12)


def events(*chunks: bytes, **bounds) -> list[str]:
    stream = EventStream(**bounds)
    return [event for chunk in chunks for event in stream.feed(chunk)] + stream.end()


@given(
    data=st.lists(st.lists(LINE, min_size=1, max_size=3), max_size=6),
    line_break=st.sampled_from(("\n", "\r\n", "\r")),
    cuts=st.lists(st.integers(0, 400), max_size=20),
)
def test_where_the_chunks_are_cut_makes_no_difference(data, line_break, cuts):
    raw = "".join("".join(f"data: {line}{line_break}" for line in lines) + line_break for lines in data).encode()
    places = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    chunks = [raw[start:end] for start, end in itertools.pairwise(places)]
    assert events(*chunks) == [event for lines in data if (event := "\n".join(lines)).strip()]


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_garbage_is_read_or_refused_and_never_breaks_the_parser(chunks):
    try:
        found = events(*chunks)
    except MalformedStream:
        return
    assert all(isinstance(event, str) for event in found)


def test_comments_other_fields_and_a_byte_order_mark_are_skipped():
    assert events(b"\xef\xbb\xbfdata: 1\n: hello\nevent: x\nid: 4\nretry\ndata:2\n\n") == ["1\n2"]


def test_an_event_without_its_blank_line_counts_at_the_end():
    assert events(b"data: 1\n\ndata: 2") == ["1", "2"]
    assert events(b"data: 1\n") == ["1"]


def test_blank_lines_alone_are_no_event():
    assert events(b"\n\n\r\n\n") == []


def test_an_event_without_data_only_keeps_the_connection_awake():
    assert events(b"data\n\ndata:\n\nevent: ping\ndata: \n\ndata: 1\n\ndata:\n") == ["1"]


def test_a_character_may_be_cut_in_two():
    raw = "data: grüße\n\n".encode()
    assert events(raw[:9], raw[9:]) == ["grüße"]


def test_a_line_break_may_be_cut_in_two():
    assert events(b"data: 1\r", b"\n\r", b"\ndata: 2\r\n\r\n") == ["1", "2"]


@pytest.mark.parametrize(
    ("chunks", "problem"),
    [
        ([b"x" * 11], "a line of more than 10 bytes"),
        ([b"data: 123456789\n"], "an event of more than 10 bytes"),
        ([b"data:1234\ndata:1234\ndata:1234\n"], "an event of more than 10 bytes"),
        ([b"data:1\n\n"] * 6, "more than 40 bytes"),
        ([b"data:\xff\n"], "not UTF-8"),
    ],
    ids=["endless line", "long line", "long event", "long stream", "not text"],
)
def test_what_is_beyond_the_bounds_is_refused(chunks, problem):
    with pytest.raises(MalformedStream, match=problem):
        events(*chunks, line_bytes=10, total_bytes=40)
