"""The runner as a process: exit codes, signals, what stays on disk after SIGKILL, and who can read a credential."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agenttask.api.reasons import Reason
from agenttask.api.report import Report, encode

Step = Callable[..., dict[str, Any]]
UID = 10001


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_task_that_succeeds_exits_0_with_its_output_in_the_message(pod: Any, plugin_step: Step) -> None:
    pod.start(plugin_step("say", text="one"), plugin_step("say", text="{{ steps.s0.text }} two"))
    code, log = pod.end()
    report = pod.report()
    assert (code, report.output, report.done, report.attempt) == (0, "one two", True, 3), log
    last = log.splitlines()[-1]
    said = [line.split(" ", 1)[1].split(" after")[0] for line in log.splitlines()]
    assert [line for line in said if line.startswith(("task ", "step "))] == [
        "task demo: attempt 3 started, 2 steps",
        "step s0: started (say)",
        "step s0: succeeded",
        "step s1: started (say)",
        "step s1: succeeded",
        "task demo: succeeded",
    ]
    assert re.search(r"Z resources: cpu \d+ % .* of \d+ processors; memory \d+ MiB .*; loop lag p99 .*; at most \d+ open files", last)


def test_a_task_that_fails_exits_1_with_its_reason(pod: Any, plugin_step: Step) -> None:
    pod.start({**plugin_step("sleep", seconds=60), "timeoutSeconds": 1})
    code, _ = pod.end()
    error = pod.report().error
    assert (code, error.reason, error.message, error.step) == (1, Reason.STEP_FAILED, "step 's0': timed out after 1 s (timeoutSeconds)", 0)


@pytest.mark.parametrize(
    ("raw", "variables", "reason", "problem", "attempt"),
    [
        pytest.param("not json", {}, Reason.INVALID_TASK, "malformed", 1, id="no JSON"),
        pytest.param('{"version": 9, "attempt": 4}', {}, Reason.INVALID_TASK, "version 9", 4, id="newer"),
        pytest.param(None, {"AGENTTASK_DOCUMENT": "/nowhere"}, Reason.INVALID_TASK, "'/nowhere' cannot be read", 1, id="not mounted"),
        pytest.param(None, {"CPU_THREADS": "all"}, Reason.INVALID_TASK, "CPU_THREADS: 'all'", 3, id="setting"),
    ],
)
def test_a_broken_document_exits_2_with_a_report(
    pod: Any, plugin_step: Step, raw: str | None, variables: dict[str, str], reason: Reason, problem: str, attempt: int
) -> None:
    pod.start(plugin_step("say", text="x"), raw=raw, variables=variables)
    code, log = pod.end()
    report = pod.report()
    assert (code, report.error.reason, report.done, report.attempt) == (2, reason, True, attempt)
    assert problem in report.error.message
    assert problem in log


def test_a_plugin_that_cannot_be_loaded_is_told(pod: Any, plugin_step: Step) -> None:
    (pod.root / "site" / "process_kinds.py").write_text("import no_such_module")
    pod.start(plugin_step("say", text="x"))
    code, log = pod.end()
    error = pod.report().error
    assert (code, error.reason) == (2, Reason.UNKNOWN_PLUGIN)
    assert "No module named 'no_such_module'" in error.message
    assert "Traceback" in log


def test_sigkill_leaves_a_report_with_the_finished_steps(pod: Any, plugin_step: Step) -> None:
    pod.start(plugin_step("say", text="one"), plugin_step("sleep", seconds=600), plugin_step("say", text="never"))
    pod.until(pod.sleeping)
    pod.signal(signal.SIGKILL)
    code, _ = pod.end()
    report = pod.report()
    assert (code, report.done, [(step.index, step.code) for step in report.steps]) == (-signal.SIGKILL, False, [(0, "S"), (1, "R")])


def test_sigterm_ends_the_steps_and_leaves_a_report(pod: Any, plugin_step: Step) -> None:
    steps = (plugin_step("say", text="one"), plugin_step("sleep", seconds=600), plugin_step("say", text="never"))
    pod.start(*steps, variables={"AGENTTASK_GRACE_SECONDS": "9"})  # a third of it for the running step
    pod.until(pod.sleeping)
    pod.signal(signal.SIGTERM)
    code, log = pod.end()
    report = pod.report()
    assert (code, report.done, [step.code for step in report.steps]) == (143, True, ["S", "F", "K"]), log
    assert (report.error.reason, report.error.message) == (Reason.LOST, "the runner was stopped (SIGTERM)")


def test_a_step_that_does_not_end_is_left_when_the_grace_period_is_over(pod: Any, plugin_step: Step) -> None:
    pod.start(plugin_step("stubborn"), variables={"AGENTTASK_GRACE_SECONDS": "1"})
    pod.until(pod.sleeping)
    pod.signal(signal.SIGTERM)
    code, _ = pod.end()
    report = pod.report()
    assert (code, report.done) == (143, True)
    assert "did not end in time" in report.error.message


def test_a_second_sigterm_ends_at_once(pod: Any, plugin_step: Step) -> None:
    pod.start(plugin_step("stubborn"), variables={"AGENTTASK_GRACE_SECONDS": "200"})
    pod.until(pod.sleeping)
    pod.signal(signal.SIGTERM)
    pod.until(lambda: pod.took(signal.SIGTERM))
    pod.signal(signal.SIGTERM)
    code, _ = pod.end(100)  # and not the grace
    assert (code, pod.report().done) == (143, True)


def test_no_process_of_a_task_outlives_the_runner(pod: Any, plugin_step: Step) -> None:
    pod.start(plugin_step("command", command=["sh", "-c", "sleep 600 & sleep 600"], leave=True))
    code, _ = pod.end()
    child = int((pod.root / "workspace" / "child").read_text())
    assert (code, alive(child)) == (0, False)
    assert not [
        entry
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _command(entry) == b"sleep\x00600\x00" and _group(entry) == child
    ]


def test_a_process_left_behind_cannot_forge_the_last_report(pod: Any, plugin_step: Step) -> None:
    forged = pod.root / "workspace" / "forged"
    forged.write_bytes(encode(Report(attempt=3, done=True, output="forged")))
    write = f"while :; do dd if={forged} of={pod.root / 'termination'} conv=notrunc status=none; done"
    pod.start(plugin_step("command", command=["sh", "-c", write], leave=True), plugin_step("say", text="true"))
    code, log = pod.end()
    assert (code, pod.report().output) == (0, "true"), log


def _command(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


def _group(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[2])
    except OSError:
        return 0


def test_a_command_gets_no_credential_and_the_runner_keeps_none_in_its_environment(pod: Any, plugin_step: Step) -> None:
    pod.start(
        plugin_step("environment"),
        plugin_step("command", command=["env"]),
        plugin_step("say", text="{{ steps.s0.text }} | {{ steps.s1.text }}"),
        variables={"AGENTTASK_CREDENTIAL_0": "s3cret", "AGENTTASK_SECRET_1": "s3cret", "OTHER": "x"},
    )
    code, log = pod.end()
    output = pod.report().output
    assert code == 0, log
    runner, child = output.split(" | ")
    assert [name for name in ("OTHER", "OMP=", "CREDENTIAL", "AGENTTASK_SECRET") if name in runner] == ["OTHER", "OMP="]
    assert sorted(line.split("=")[0] for line in child.splitlines()) == ["HOME", "LANG", "PATH", "TMPDIR"]
    assert "s3cret" not in log


PROCESS = """
import ctypes, os, subprocess, sys
from agenttask.runner.credentials import close_memory, take_credentials

if os.getuid() == 0:
    os.setgid({uid})
    os.setuid({uid})
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # setuid closes the memory too: open it, as a pod's process begins

def look():
    seen = subprocess.run(["/bin/cat", f"/proc/{{os.getpid()}}/environ"], capture_output=True, text=True, cwd="/")
    return "s3cret" if "s3cret" in seen.stdout else seen.stderr.strip()

print(look())
credentials = take_credentials(os.environ)
print(look())
close_memory()
print(look())
print("s3cret" in subprocess.run(["/usr/bin/env"], capture_output=True, text=True, cwd="/").stdout)
print(credentials, credentials.values)
"""


def test_a_child_of_the_same_user_cannot_read_the_environment_that_the_runner_was_started_with() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROCESS.format(uid=UID)],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(sys.path), "AGENTTASK_CREDENTIAL_0": "s3cret"},
    )
    before, popped, closed, inherited, kept = done.stdout.splitlines()
    assert (before, popped) == ("s3cret", "s3cret")  # popping alone does not help
    assert closed.endswith("Permission denied")
    assert (inherited, kept) == ("False", "Credentials(AGENTTASK_CREDENTIAL_0) {'AGENTTASK_CREDENTIAL_0': 's3cret'}")
