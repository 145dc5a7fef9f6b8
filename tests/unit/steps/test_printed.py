"""What a command prints is bounded where it arrives."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from agenttask_steps import printed
from agenttask_steps.lines import BURST_CHARACTERS, CHARACTERS_PER_SECOND, LINE_CHARACTERS, Allowance, LineLog
from agenttask_steps.mask import Mask, MaskedStream
from agenttask_steps.printed import ERROR_TAIL_CHARACTERS, End, ErrorTail, Pipe, Shown, Whole


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def shown(lines: list[str], clock: Clock | None = None, secrets: tuple[str, ...] = ()) -> Shown:
    return Shown(MaskedStream(Mask(secrets)), LineLog(lines.append, Allowance(clock or Clock())))


def test_output_up_to_the_limit_is_kept_and_one_byte_more_is_told_once():
    told: list[str] = []
    output = Whole(4, lambda: told.append("too much"))
    output.add(b"ab", "")
    output.add(b"cd", "")
    assert (output.value(), told) == ((b"abcd", ""), [])
    output.add(b"e", "")
    output.add(b"f", "")
    assert (output.value(), output.overflowed, told) == ((b"", ""), True, ["too much"])


def test_the_end_of_output_tells_what_was_cut():
    output = End(8)
    output.add(b"12345678", "")
    assert output.value() == (b"12345678", "")
    output.add(b"9", "")
    assert output.value() == (b"23456789", "[1 bytes before this were cut]\n")


def test_the_end_begins_with_a_whole_character():
    output = End(8)
    output.add("a€bcdefg".encode(), "")
    assert output.value() == (b"bcdefg", "[4 bytes before this were cut]\n")
    only_half = End(8)
    only_half.add(b"\x80" * 8, "")
    assert only_half.value() == (b"\x80" * 8, "")


@given(st.lists(st.text(alphabet="aß€😀\n", max_size=30), max_size=20), st.integers(4, 40))
def test_the_end_is_the_end_however_it_came(pieces, limit):
    output = End(limit)
    for piece in pieces:
        output.add(piece.encode(), piece)
    raw, before = output.value()
    whole = "".join(pieces).encode()
    assert len(raw) <= limit
    assert whole.endswith(raw)
    assert raw.decode() is not None
    assert bool(before) is (raw != whole)
    assert len(raw) > limit - 4 or raw == whole
    assert len(output._kept) <= 2 * limit + 120


def test_lines_are_logged_whole_and_blank_ones_not():
    lines: list[str] = []
    stream = shown(lines)
    for data in (b"first\nsec", b"ond\r\n\n  \n", b"last \xc3", b"\xbc"):
        stream.feed(data)
    assert lines == ["first", "second"]
    stream.end()
    assert lines == ["first", "second", "last ü"]


def test_a_line_without_end_is_logged_in_pieces():
    lines: list[str] = []
    stream = shown(lines)
    stream.feed(b"x" * 4500)
    assert [len(line) for line in lines] == [LINE_CHARACTERS, LINE_CHARACTERS]
    stream.feed(b"\n" + b"y" * 4500 + b"\n")
    assert [len(line) for line in lines] == [1800, 1800, 900, 1800, 1800, 900]


def test_half_a_character_at_the_end_is_replaced():
    lines: list[str] = []
    stream = shown(lines)
    stream.feed(b"half \xc3")
    stream.end()
    assert lines == ["half \ufffd"]


def test_secrets_are_covered_across_chunks_and_pieces():
    lines: list[str] = []
    stream = shown(lines, secrets=("s3cret-value",))
    stream.feed(b"x" * (LINE_CHARACTERS - 5) + b"s3cr")
    stream.feed(b"et-value and s3cret-v")
    stream.feed(b"alue\n")
    assert "".join(lines) == "x" * (LINE_CHARACTERS - 5) + "*** and ***"


def test_what_comes_faster_than_is_logged_is_counted_and_told():
    lines: list[str] = []
    clock = Clock()
    stream = shown(lines, clock)
    stream.feed(b"a line of text\n" * 100_000)
    logged = len(lines)
    assert logged < BURST_CHARACTERS / 64
    clock.now += 1
    stream.feed(b"and on\n")
    assert lines[logged:] == [f"[{100_000 - logged} lines left out: the command prints faster than is logged]", "and on"]
    stream.feed(b"a line of text\n" * 10_000)
    stream.end()
    assert len(lines) - logged < CHARACTERS_PER_SECOND / 64
    assert lines[-1].endswith("left out: the command prints faster than is logged]")


def test_an_endless_line_beyond_the_allowance_is_not_kept():
    lines: list[str] = []
    log = LineLog(lines.append, Allowance(Clock()))
    for _ in range(40):
        log.feed("x" * 100_000)
    assert len(log._line) <= LINE_CHARACTERS
    log.feed("\nfine")
    log.end()
    assert "lines left out" in lines[-1]


def test_the_tail_is_what_came_last_however_it_came():
    tail = ErrorTail()
    for number in range(3000):
        tail.add(b"", f"{number:05d} ")
    assert len(tail.value()) <= ERROR_TAIL_CHARACTERS
    assert tail.value().endswith("02998 02999")
    tail.add(b"", "y" * 3 * ERROR_TAIL_CHARACTERS)
    assert tail.value() == "y" * ERROR_TAIL_CHARACTERS


class Transport(asyncio.ReadTransport):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.resumed = asyncio.Event()

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")
        self.resumed.set()

    def is_closing(self) -> bool:
        return False


async def test_a_pipe_that_prints_without_end_is_read_at_a_pace(monkeypatch):
    monkeypatch.setattr(printed, "_PACE_BYTES", 1000)
    kept: list[bytes] = []
    pipe = Pipe(shown([]), lambda raw, _: kept.append(raw))
    transport = Transport()
    pipe.connection_made(transport)
    pipe.data_received(b"x" * 999)
    assert transport.calls == []
    pipe.data_received(b"x")
    assert transport.calls == ["pause"]
    await transport.resumed.wait()
    assert transport.calls == ["pause", "resume"]
    pipe.data_received(b"x" * 1000)
    pipe.connection_lost(None)
    await asyncio.sleep(0.15)
    assert transport.calls == ["pause", "resume", "pause"]
    assert (b"".join(kept), pipe.closed.is_set()) == (b"x" * 2000, True)
