"""What /proc says, read as Linux writes it."""

import os

from bench.control import procfs
from bench.control.procfs import Usage

STAT = (
    "4242 (a (strange) name) S 1 4242 4242 0 -1 4194560 1000 0 0 0 {user} {system} 0 0 20 0 9 0 100 123456789 {pages} "
    "18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 1 0 0 0 0 0"
)


def test_cpu_and_memory_come_after_a_name_with_parentheses() -> None:
    line = STAT.format(user=250, system=50, pages=2560)
    assert procfs.parse_stat(line, ticks=100, page=4096) == Usage(cpu=3.0, rss=10.0)


def test_this_process_has_both() -> None:
    found = procfs.usages({"me": os.getpid()})["me"]
    assert found.cpu > 0
    assert found.rss > 1


def test_the_processor_is_named_once() -> None:
    assert procfs.processor("processor\t: 0\nmodel name\t: Fast One\nprocessor\t: 1\nmodel name\t: Fast One\n") == "Fast One"
    assert procfs.processor("") == "unknown processor"


def test_memory_is_what_the_machine_has() -> None:
    assert procfs.memory_gib("MemTotal:       25165824 kB\nMemFree: 1 kB\n") == 24
