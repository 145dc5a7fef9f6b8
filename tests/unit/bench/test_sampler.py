"""Where CPU goes: stacks counted, kept in a file, and added up."""

import signal
from collections import Counter
from pathlib import Path

from bench.control import sampler
from bench.control.sampler import Sampler

LOOP = ("main.py:main", "3.11/asyncio/runners.py:run")
STACKS = Counter(
    {
        (*LOOP, "agenttask/controller/drivers.py:drive", "agenttask/controller/pod.py:build"): 6,
        (*LOOP, "agenttask/controller/drivers.py:drive"): 2,
        (*LOOP, "kopf/queueing.py:worker", "3.11/asyncio/tasks.py:wait_for"): 2,
    }
)


def test_stacks_come_back_from_their_file(tmp_path: Path) -> None:
    one = Sampler()
    one.stacks.update(STACKS)
    one.write(tmp_path / "stacks")
    assert sampler.read(tmp_path / "stacks") == STACKS
    assert (one.stacks, one.written) == ({}, True)


def test_the_tree_begins_where_a_turn_of_the_loop_does() -> None:
    tree, alone = sampler.tables(STACKS).split("\n\n")
    assert tree.splitlines() == [
        "turns of the loop (10 samples)",
        "  80.0 %  agenttask/controller/drivers.py:drive",
        "  60.0 %    agenttask/controller/pod.py:build",
        "  20.0 %  kopf/queueing.py:worker",
        "  20.0 %    3.11/asyncio/tasks.py:wait_for",
    ]
    assert "  60.0 %  agenttask/controller/pod.py:build" in alone


def test_what_is_below_the_least_is_left_out() -> None:
    assert "kopf" not in sampler.tables(STACKS, least=50).split("\n\n")[0]


def test_a_sample_is_the_running_functions_outermost_first() -> None:
    one = Sampler()
    previous = signal.getsignal(signal.SIGPROF)
    try:
        one.start()
        end = sum(number * number for number in range(300_000))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
    assert end
    mine = [stack for stack in one.stacks if any("test_a_sample_is" in name for name in stack)]
    assert mine
    assert "test_a_sample_is" not in mine[0][0]
