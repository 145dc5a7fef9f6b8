"""Attempts one after another, as processes: killed, stopped, out of time, and each goes on where the one before was."""

import json
import re
import shutil
import signal
from typing import Any

from agenttask.api.checkpoint import decode
from agenttask.api.reasons import Reason


def shell(name: str, script: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "exec": {"command": ["sh", "-c", script]}, **fields}


def start(runner: Any, *steps: dict[str, Any], variables: dict[str, str] | None = None, **spec: Any) -> None:
    document = {"version": 1, "task": {"name": "demo", "namespace": "n", "uid": "u"}, "attempt": 1, "spec": {"steps": steps, **spec}}
    runner.start(
        raw=json.dumps(document), variables={"AGENTTASK_CHECKPOINT": str(runner.root / "kept" / "checkpoint.json"), **(variables or {})}
    )


def lose_workspace(pod: Any) -> None:
    shutil.rmtree(pod.root / "workspace")
    (pod.root / "workspace").mkdir()


def kept_steps(pod: Any) -> list[str]:
    path = pod.root / "kept" / "checkpoint.json"
    return [step.name for step in decode(path.read_bytes()).steps] if path.exists() else []


def counted(pod: Any) -> list[str]:
    found: list[str] = (pod.root / "count").read_text().split()
    return found


def two_steps(pod: Any) -> list[dict[str, Any]]:
    return [
        shell("make", f"echo made >> {pod.root}/count; echo content > made.txt; echo output", keepFiles=["*.txt"]),
        shell("use", f"{pod.waits}; cat made.txt; echo 'and {{{{ steps.make.text | trim }}}}'"),
    ]


def test_after_a_kill_the_next_attempt_goes_on_with_files_and_outputs(pod: Any) -> None:
    start(pod, *two_steps(pod))
    pod.until(lambda: pod.sleeping() and kept_steps(pod) == ["make"])
    pod.signal(signal.SIGKILL)
    pod.end()
    lose_workspace(pod)
    (pod.root / "go").touch()
    start(pod, *two_steps(pod))
    code, log = pod.end()
    assert (code, pod.report().output, counted(pod)) == (0, "content\nand output\n", ["made"]), log
    assert "checkpoint: of attempt 1" in log
    assert "step make: ended in attempt 1" in log
    first = pod.report().steps[0]
    assert (first.index, first.code, first.duration_ms) == (0, "S", 0)


def test_sigterm_leaves_a_checkpoint_of_all_that_was_finished(pod: Any) -> None:
    start(pod, *two_steps(pod), variables={"AGENTTASK_GRACE_SECONDS": "9"})
    pod.until(pod.sleeping)
    pod.signal(signal.SIGTERM)
    code, log = pod.end()
    report = pod.report()
    assert (code, [step.code for step in report.steps], report.error.reason) == (143, ["S", "F"], Reason.LOST), log
    assert kept_steps(pod) == ["make"]


def test_a_step_that_ends_within_the_grace_period_is_kept_and_none_starts_after_it(pod: Any) -> None:
    start(pod, *two_steps(pod), shell("never", "echo never"), variables={"AGENTTASK_GRACE_SECONDS": "240"})
    pod.until(pod.sleeping)
    pod.signal(signal.SIGTERM)
    pod.until(lambda: pod.took(signal.SIGTERM))
    (pod.root / "go").touch()
    code, log = pod.end()
    assert (code, [step.code for step in pod.report().steps], kept_steps(pod)) == (143, ["S", "S", "K"], ["make", "use"]), log


def test_the_soft_deadline_lets_end_what_runs_and_the_next_attempt_does_the_rest(pod: Any) -> None:
    steps = [shell("long", f"echo long >> {pod.root}/count; sleep 5; echo 1", keepFiles=["x"]), shell("rest", "echo rest")]
    start(pod, *steps, softDeadlineSeconds=4)  # after which `long` has begun, and has not ended
    code, log = pod.end()
    report = pod.report()
    assert (code, [step.code for step in report.steps], report.error.reason) == (1, ["S", "K"], Reason.SOFT_DEADLINE_REACHED), log
    assert report.error.message == "no step, item or try starts after 4 s of running (softDeadlineSeconds)"
    assert report.steps[1].message == report.error.message
    start(pod, *steps, softDeadlineSeconds=120)
    code, log = pod.end()
    assert (code, pod.report().output, counted(pod)) == (0, "rest\n", ["long"]), log


def test_items_are_taken_over_one_by_one_on_a_workspace_that_persists(pod: Any) -> None:
    script = f"echo {{{{ item }}}} >> {pod.root}/count; test {{{{ item }}}} != 2 || ({pod.waits}); echo done {{{{ item }}}}"
    step = shell("each", script, forEach="{{ [1, 2, 3] }}")
    kept = {"AGENTTASK_WORKSPACE_KEPT": "1"}
    start(pod, step, variables=kept, output="{{ steps.each.results | map(attribute='text') | join('') }}")
    checkpoint = pod.root / "kept" / "checkpoint.json"
    pod.until(lambda: pod.sleeping() and checkpoint.exists())
    pod.signal(signal.SIGKILL)
    pod.end()
    assert [item.index for item in decode(checkpoint.read_bytes()).items] == [0]
    (pod.root / "go").touch()
    start(pod, step, variables=kept, output="{{ steps.each.results | map(attribute='text') | join('') }}")
    code, log = pod.end()
    assert (code, pod.report().output, counted(pod)) == (0, "done 1\ndone 2\ndone 3\n", ["1", "2", "2", "3"]), log


def test_a_checkpoint_of_another_spec_is_told_and_the_task_starts_anew(pod: Any) -> None:
    start(pod, shell("one", f"echo one >> {pod.root}/count"))
    assert pod.end()[0] == 0
    start(pod, shell("one", f"echo two >> {pod.root}/count"))
    code, log = pod.end()
    assert (code, counted(pod)) == (0, ["one", "two"])
    assert "checkpoint: not taken over, the task starts from the beginning: the checkpoint is of another spec" in log


def test_a_checkpoint_that_cannot_be_written_costs_no_task(pod: Any) -> None:
    (pod.root / "kept").touch()
    start(pod, shell("one", "echo one"))
    code, log = pod.end()
    assert (code, pod.report().output) == (0, "one\n"), log
    assert "checkpoint: not saved: " in log


def test_one_variable_tells_slow_callbacks_memory_and_leaks(pod: Any, plugin_step: Any) -> None:
    start(
        pod,
        {"name": "careless", **plugin_step("command", command=["sleep", "600"], leave=True)},
        {"name": "slow", **plugin_step("block", seconds=0.3)},
        pod={"env": [{"name": "AGENTTASK_DEBUG", "value": "1"}]},
    )
    code, log = pod.end()
    assert code == 0, log
    said = [line.partition(" ")[2] for line in log.splitlines()]
    assert {line.split()[1] for line in said if line.startswith("leaks: ")} <= {"process", "file"}  # the files are the process's pipe
    assert any(re.fullmatch(r"leaks: process left open: \d+ sleep 600", line) for line in said)
    assert len([line for line in said if re.match(r"memory: \d+ KiB", line)]) > 3
    assert any(re.match(r"asyncio warning: Executing .*(block|step slow)", line) for line in said), log


def test_a_log_that_nobody_reads_stops_no_task(pod: Any) -> None:
    start(pod, shell("loud", "seq 1 40000; seq 1 40000 >&2"), {"name": "after", "needs": ["loud"], "write": {"path": "x", "content": "y"}})
    pod.until(lambda: pod.has_report() and pod.report().done, seconds=120)
    code, log = pod.end()
    assert code == 0, log[-2000:]
