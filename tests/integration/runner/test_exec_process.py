"""Commands below a real runner: what they can see of it, what they get, and what is left of them."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

LOOK = """
import ctypes, os, subprocess, sys

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

def opened(path):
    with open(path, "rb") as file:
        return file.read(1)

def memory(pid):
    with open(f"/proc/{pid}/mem", "rb"):
        pass

def descriptors(pid):
    for name in os.listdir(f"/proc/{pid}/fd"):
        os.readlink(f"/proc/{pid}/fd/{name}")

def taken(pid):
    if libc.syscall(438, os.pidfd_open(pid), 0, 0) < 0:  # pidfd_getfd
        raise OSError(ctypes.get_errno(), "")

def traced(pid):
    if libc.ptrace(16, pid, None, None) < 0:  # PTRACE_ATTACH
        raise OSError(ctypes.get_errno(), "")

LOOKS = {
    "environ": lambda pid: opened(f"/proc/{pid}/environ"), "memory": memory, "fd": descriptors, "pidfd_getfd": taken, "ptrace": traced
}

def seen(pid):
    found = []
    for name, look in LOOKS.items():
        try:
            look(pid)
        except PermissionError:
            continue
        found.append(name)
    return found

child = subprocess.Popen(["sleep", "60"], env={"SECRET": "x"})
print("child", *seen(child.pid))
child.kill()
print("runner", *seen(os.getppid()))
print("key", os.environ["KEY"])
print("has", *sorted(name for name in os.environ if "CREDENTIAL" in name or "SECRET" in name))
"""

WITHOUT_CAPABILITIES = """
import ctypes, os, sys
for capability in range(64):  # a pod has none; root without any is a user like others, who owns root's files
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "agenttask.runner.main"])
"""


def document(*steps: dict[str, Any], secrets: tuple[dict[str, str], ...] = (), **spec: Any) -> str:
    named = [{"name": f"s{index}", **step} for index, step in enumerate(steps)]
    task = {"name": "demo", "namespace": "n", "uid": "u"}
    return json.dumps({"version": 1, "task": task, "attempt": 1, "secrets": secrets, "spec": {"steps": named, **spec}})


def command(*argv: str, **fields: Any) -> dict[str, Any]:
    return {"exec": {"command": list(argv), **fields}}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_command_sees_nothing_of_the_runner_and_gets_the_secret_that_it_names(pod: Any) -> None:
    key = {"name": "KEY", "secretKeyRef": {"name": "n", "key": "k"}}
    raw = document(
        command(sys.executable, "-c", LOOK, env=[key]),
        secrets=({"step": "s0", "name": "KEY", "env": "AGENTTASK_SECRET_0"},),
    )
    variables = {"AGENTTASK_SECRET_0": "for-the-step", "AGENTTASK_CREDENTIAL_0": "of-a-model"}
    pod.start(raw=raw, variables=variables, program=["-c", WITHOUT_CAPABILITIES])
    code, log = pod.end()
    assert code == 0, log
    child, runner, arrived, has = pod.report().output.splitlines()
    if child.split()[1:] != ["environ", "memory", "fd", "pidfd_getfd", "ptrace"]:
        pytest.skip(f"this kernel lets a process see only this of its own child: {child}")
    assert (runner, arrived, has) == ("runner", "key for-the-step", "has")
    assert "of-a-model" not in log
    assert "for-the-step" not in log


def test_home_and_temporary_folder_are_writable_and_the_environment_is_clean(pod: Any) -> None:
    script = 'echo x > "$HOME/.config" && echo x > "$TMPDIR/file" && env | cut -d= -f1 | sort | tr "\\n" " "'
    pod.start(raw=document(command("sh", "-c", script), pod={"env": [{"name": "MINE", "value": "1"}]}), variables={"OTHER": "x"})
    code, log = pod.end()
    assert code == 0, log
    assert pod.report().output.split() == ["AGENTTASK_STEP_RUN", "HOME", "LANG", "MINE", "PATH", "PWD", "TMPDIR"]


def test_a_daemon_ends_with_its_step_and_leaves_no_zombie(pod: Any) -> None:
    halves = "(true & setsid true & setsid sh -c 'exit 1' &)"
    daemon = "setsid sh -c 'setsid sh -c \"echo \\$\\$ > pid; sleep 600\" & sleep 0.2' & while [ ! -s pid ]; do sleep 0.01; done"
    look = 'if [ -e "/proc/$(cat pid)" ]; then echo there; else echo gone; fi; ps -o stat= --ppid $PPID | grep -c Z'
    pod.start(raw=document(command("sh", "-c", f"{halves}; {daemon}"), command("sh", "-c", f"{look}; true")))
    code, log = pod.end()
    assert code == 0, log
    assert pod.report().output == "gone\n0\n"


def test_one_that_wiped_its_environment_ends_with_the_runner(pod: Any) -> None:
    daemon = "setsid env -i /bin/sh -c 'echo $$ > pid; exec /bin/sleep 600' & while [ ! -s pid ]; do sleep 0.01; done"
    pod.start(raw=document(command("sh", "-c", daemon), command("true")))
    code, log = pod.end()
    assert code == 0, log
    assert not alive(int((pod.root / "workspace" / "pid").read_text()))


def test_strategies_with_processes_leave_none_and_give_them_no_credential(pod: Any) -> None:
    """A large value is rendered in a process of the pool."""
    (pod.root / "workspace" / "large").write_text("x" * 200_000)
    raw = document(
        {"read": {"paths": ["large"]}},
        {"write": {"path": "copy", "content": "{{ steps.s0.text }}"}},
        command(
            "sh",
            "-c",
            "for p in $(ps -o pid= --ppid $PPID); do tr '\\0' ' ' < /proc/$p/cmdline; echo; done | grep -c agenttask_threading/[w]orker",
        ),
        execution={"threading": "hybrid", "maxProcesses": 1},
    )
    pod.start(raw=raw, variables={"AGENTTASK_CREDENTIAL_0": "of-a-model", "SOME_API_KEY": "x"})
    code, log = pod.end()
    assert code == 0, log
    assert pod.report().output == "1\n"
    assert (pod.root / "workspace" / "copy").read_text() == "x" * 200_000
    here = f"PYTHONPATH={pod.root / 'site'}".encode()
    assert not [entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and here in _environ(entry)]


def _environ(entry: Path) -> bytes:
    try:
        return (entry / "environ").read_bytes()
    except OSError:
        return b""
