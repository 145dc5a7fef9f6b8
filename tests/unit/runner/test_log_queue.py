"""Log lines through a queue: in order, never waiting, nothing lost without a word."""

import contextlib
import io
import os
import subprocess
import sys
import threading
from typing import Any

from agenttask.runner.log_queue import QueuedStream


class Stalled(io.StringIO):
    """A reader that takes nothing until `go`."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        assert self.go.wait(60)
        return super().write(text)


def test_lines_come_out_in_their_order() -> None:
    out = io.StringIO()
    stream = QueuedStream(out)
    for number in range(5000):
        stream.write(f"{number}\n")
        stream.flush()
    assert stream.close(seconds=60)
    assert out.getvalue() == "".join(f"{number}\n" for number in range(5000))


def test_a_reader_that_stalls_holds_up_nobody_and_what_is_lost_is_told() -> None:
    out = Stalled()
    stream = QueuedStream(out, max_lines=3)
    stream.write("first\n")
    assert out.reached.wait(60)
    for number in range(10):
        stream.write(f"{number}\n")
    assert not stream.close(seconds=0.01)
    out.go.set()
    assert stream.close(seconds=60)
    assert out.getvalue() == "first\n0\n1\n2\nlog: 7 lines are lost: whoever reads this log was too slow\n"


def test_a_line_after_the_end_goes_out_at_once() -> None:
    out = io.StringIO()
    stream = QueuedStream(out)
    stream.close(seconds=60)
    assert stream.close(seconds=60)
    stream.write("late\n")
    assert out.getvalue() == "late\n"


def test_a_reader_that_is_gone_ends_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    out: Any = os.fdopen(writing, "w")
    stream = QueuedStream(out)
    stream.write("x\n")
    assert stream.close(seconds=60)
    stream.write("y\n")
    with contextlib.suppress(BrokenPipeError):
        out.close()


def test_lines_of_several_threads_stay_whole() -> None:
    out = io.StringIO()
    stream = QueuedStream(out, max_lines=100_000)
    threads = [
        threading.Thread(target=lambda lines: [stream.write(line) for line in lines], args=([f"{name} {n}\n" for n in range(1000)],))
        for name in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stream.close(seconds=60)
    lines = out.getvalue().splitlines()
    for name in "abcd":
        assert [line for line in lines if line.startswith(name)] == [f"{name} {n}" for n in range(1000)]


def test_a_program_that_crashes_has_said_all_that_it_said() -> None:
    program = (
        "import sys\n"
        "from agenttask.runner.log_queue import QueuedStream\n"
        "stream = QueuedStream(sys.stdout)\n"
        "for n in range(1000): stream.write(f'{n}\\n')\n"
        "raise RuntimeError('crash')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 1
    assert "RuntimeError: crash" in ended.stderr
    assert ended.stdout.splitlines() == [str(number) for number in range(1000)]
