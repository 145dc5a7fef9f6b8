"""The kernel's count of kills for memory, in both versions of cgroups."""

import pytest

from agenttask_steps.oom import oom_kills


@pytest.mark.parametrize(
    ("file", "text", "count"),
    [
        ("memory.events", "low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n", 2),
        ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n", 5),
        ("memory.events", "oom_kill many\n", 0),
        ("memory.events", "", 0),
        ("elsewhere", "oom_kill 7\n", 0),
    ],
    ids=["v2", "v1", "no-number", "nothing", "not-there"],
)
def test_the_count_is_read(tmp_path, file, text, count):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    assert oom_kills(tmp_path) == count
