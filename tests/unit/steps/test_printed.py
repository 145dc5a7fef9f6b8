"""What a command prints is bounded where it arrives."""

from agenttask_steps.printed import TAIL_BYTES, StandardError, StandardOutput


def test_output_up_to_the_limit_is_kept_and_one_byte_more_is_told_once():
    told: list[str] = []
    output = StandardOutput(4, lambda: told.append("too much"))
    output.data_received(b"ab")
    output.data_received(b"cd")
    assert (output.value(), told) == (b"abcd", [])
    output.data_received(b"e")
    output.data_received(b"f")
    assert (output.value(), output.overflowed, told) == (b"", True, ["too much"])


def test_lines_are_logged_whole_and_blank_ones_not():
    lines: list[str] = []
    error = StandardError(lines.append)
    for data in (b"first\nsec", b"ond\r\n\n  \n", b"last \xc3", b"\xbc"):
        error.data_received(data)
    assert lines == ["first", "second"]
    error.connection_lost(None)
    assert lines == ["first", "second", "last ü"]
    assert error.closed.is_set()


def test_a_line_without_end_is_logged_in_pieces():
    lines: list[str] = []
    error = StandardError(lines.append)
    error.data_received(b"x" * 4500)
    assert [len(line) for line in lines] == [2000, 2000]


def test_the_tail_is_what_came_last_however_it_came():
    error = StandardError(lambda line: None)
    for number in range(3000):
        error.data_received(b"%05d " % number)
    assert len(error.tail()) <= TAIL_BYTES
    assert error.tail().endswith("02998 02999")
    assert error._tail_size < 2 * TAIL_BYTES
    error.data_received(b"\xbc" + b"y" * (TAIL_BYTES - 1))
    assert error.tail() == "y" * (TAIL_BYTES - 1)


def test_what_is_not_logged_is_said_once_and_the_tail_goes_on():
    lines: list[str] = []
    error = StandardError(lines.append)
    for _ in range(1200):
        error.data_received(b"x" * 999 + b"\n")
    error.data_received(b"the end")
    error.connection_lost(None)
    assert sum("the rest is not logged" in line for line in lines) == 1
    assert len(lines) < 1100
    assert error.tail().endswith("the end")
