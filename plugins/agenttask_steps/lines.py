"""What a command prints, line by line in the log, at a pace that a log bears.

A command may print faster than anybody reads. Lines beyond the allowance are counted, not kept, and the count is told with
the next line that fits.
"""

from collections.abc import Callable

LINE_CHARACTERS = 1800
"""A longer line is logged in pieces; the log's own lines have room for 2,000."""
BURST_CHARACTERS = 256 * 1024
CHARACTERS_PER_SECOND = 32 * 1024
_OPEN_AGAIN_CHARACTERS = CHARACTERS_PER_SECOND // 2
"""So much must have grown back before more is logged: a block of lines now and then, not single ones between counts."""
_LINE_COST = 64
"""Time and step name before a line: an empty one is not free."""


class Allowance:
    """Characters that may be logged now; they grow back with time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._at = clock()
        self._left = float(BURST_CHARACTERS)
        self._spent = False

    def take(self, line: str) -> bool:
        """Whether this line may be logged."""
        now = self._clock()
        self._left = min(BURST_CHARACTERS, self._left + (now - self._at) * CHARACTERS_PER_SECOND)
        self._at = now
        if self._left < (_OPEN_AGAIN_CHARACTERS if self._spent else 1):
            self._spent = True
            return False
        self._spent = False
        self._left -= len(line) + _LINE_COST
        return True


class LineLog:
    """One stream of text as lines of the log."""

    def __init__(self, log: Callable[[str], None], allowance: Allowance) -> None:
        self._log = log
        self._allowance = allowance
        self._line = ""
        self._left_out = 0

    def feed(self, text: str) -> None:
        """Log the lines that are whole; blank ones are none."""
        *lines, rest = (self._line + text).split("\n")
        for number, line in enumerate(lines):
            if not self._tell(line):
                self._left_out += len(lines) - number
                rest = rest[-LINE_CHARACTERS:]
                break
        while len(rest) > LINE_CHARACTERS:
            piece, rest = rest[:LINE_CHARACTERS], rest[LINE_CHARACTERS:]
            if not self._tell(piece):
                self._left_out += 1
                rest = rest[-LINE_CHARACTERS:]
        self._line = rest

    def end(self) -> None:
        """Log what has no line break after it, and what was left out."""
        if self._line and not self._tell(self._line):
            self._left_out += 1
        self._line = ""
        self._tell_left_out()

    def _tell(self, line: str) -> bool:
        """Log it, in pieces; False where there is no allowance for it."""
        line = line.rstrip("\r")
        if not line.strip():
            return True
        for start in range(0, len(line), LINE_CHARACTERS):
            piece = line[start : start + LINE_CHARACTERS]
            if not self._allowance.take(piece):
                return False
            self._tell_left_out()
            self._log(piece)
        return True

    def _tell_left_out(self) -> None:
        if self._left_out:
            self._log(f"[{self._left_out} line{'' if self._left_out == 1 else 's'} left out: the command prints faster than is logged]")
            self._left_out = 0
