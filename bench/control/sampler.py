"""Where a program's CPU goes: its stack at each 2 ms of CPU time, which costs it little; cProfile would triple what it measures.

`python -m bench.control --profile` prints a tree, from the function in which a turn of the loop began inwards, and the functions
by themselves.
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
        stacks, self.stacks = self.stacks, Counter()  # a sample may come while we write
        file.write_text("".join(f"{';'.join(stack)} {count}\n" for stack, count in stacks.items()))
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


def tables(stacks: Counter[tuple[str, ...]], *, least: float = 1.5, most: int = 20) -> str:
    """What turns of the loop spend CPU in, as a tree down to `least` per cent; then functions by themselves."""
    whole = sum(stacks.values()) or 1
    tree, alone = Counter[tuple[str, ...]](), Counter[str]()
    for stack, count in stacks.items():
        turn = stack[_turn(stack) :]
        tree.update(dict.fromkeys((turn[: depth + 1] for depth in range(len(turn))), count))
        alone[stack[-1]] += count
    shown = [(path, count) for path, count in tree.items() if 100 * count / whole >= least]
    lines = [f"{100 * count / whole:6.1f} %  {'  ' * (len(path) - 1)}{path[-1]}" for path, count in _in_order(shown)]
    own = [f"{100 * count / whole:6.1f} %  {name}" for name, count in alone.most_common(most)]
    return "\n".join([f"turns of the loop ({whole} samples)", *lines, "", "functions by themselves", *own])


def _in_order(found: list[tuple[tuple[str, ...], int]]) -> list[tuple[tuple[str, ...], int]]:
    """Parents before children, the larger of two sisters first."""
    counts = dict(found)

    def rank(path: tuple[str, ...]) -> list[tuple[int, str]]:
        return [(-counts[path[: depth + 1]], path[depth]) for depth in range(len(path))]

    return sorted(found, key=lambda one: rank(one[0]))


def _turn(stack: tuple[str, ...]) -> int:
    """Where the first function after the loop's own stands."""
    loop = [place for place, name in enumerate(stack) if name.endswith("asyncio/runners.py:run")]
    return min(loop[-1] + 1, len(stack) - 1) if loop else 0
