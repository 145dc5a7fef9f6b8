"""Where a program's CPU goes: its stack at each 2 ms of CPU time, which costs it little; cProfile would triple what it measures.

`python -m bench.control --profile` prints three lists: the outermost function of ours or of a library that a turn of the loop
began in, all functions with what they call, and all functions by themselves.
"""

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

INTERVAL_SECONDS: Final = 0.002
_LIBRARIES: Final = ("site-packages/", "/operator/", "/plugins/", "/bench/", "/lib/python")


class Sampler:
    """Counts whole stacks, outermost function first."""

    def __init__(self) -> None:
        self.stacks: Counter[tuple[str, ...]] = Counter()
        self.written = False

    def start(self) -> None:
        """Begin; in the main thread."""
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_SECONDS, INTERVAL_SECONDS)

    def write(self, file: Path) -> None:
        """Leave a line a stack, its functions and how often it was seen, and begin anew."""
        file.write_text("".join(f"{';'.join(stack)} {count}\n" for stack, count in self.stacks.items()))
        self.stacks.clear()
        self.written = True

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        self.stacks[tuple(_functions(frame))[::-1]] += 1


def _functions(frame: FrameType | None) -> Iterator[str]:
    while frame is not None:
        code = frame.f_code
        yield f"{_place(code.co_filename)}:{code.co_name}"
        frame = frame.f_back


def _place(file: str) -> str:
    """The file without what differs from machine to machine."""
    for folder in _LIBRARIES:
        if folder in file:
            return file.rsplit(folder, 1)[1]
    return file


def read(file: Path) -> Counter[tuple[str, ...]]:
    """What `write` wrote."""
    lines = (line.rsplit(" ", 1) for line in file.read_text().splitlines())
    return Counter({tuple(stack.split(";")): int(count) for stack, count in lines})


def tables(stacks: Counter[tuple[str, ...]], most: int = 25) -> str:
    """The three lists, in per cent of all samples."""
    whole = sum(stacks.values()) or 1
    turns, alone, within = Counter[str](), Counter[str](), Counter[str]()
    for stack, count in stacks.items():
        turns[_turn(stack)] += count
        alone[stack[-1]] += count
        within.update(dict.fromkeys(stack, count))
    lists = (("turns of the loop begin in", turns), ("with what they call", within), ("by themselves", alone))
    return "\n\n".join(
        "\n".join([f"{title} ({whole} samples)", *(f"{100 * count / whole:6.1f} %  {name}" for name, count in counted.most_common(most))])
        for title, counted in lists
    )


def _turn(stack: tuple[str, ...]) -> str:
    """The first function after the loop's own."""
    after = [place for place, name in enumerate(stack) if name.startswith(("uvloop/", "python3")) or "asyncio/" in name]
    return stack[min(after[-1] + 1, len(stack) - 1)] if after else stack[0]
