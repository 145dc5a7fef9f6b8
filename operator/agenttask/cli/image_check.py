"""`agenttask image check IMAGE`: starts an image as a task's pod would be, and lets its own runner try the contract.

With docker, podman or nerdctl on this machine, or with kubectl as a pod in the current context. The flags are those of
the pod that the controller makes: user 10001, read-only root, no capability, nothing writable but /workspace and /tmp;
no network either, as nothing of the contract needs one.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from agenttask.api.constants import CONTAINER, POD_UID, SCRATCH_PATH, WORKSPACE_PATH
from agenttask.domain.restricted import CONTAINER_SECURITY

TOOLS: Final = ("docker", "podman", "nerdctl", "kubectl")
COMMAND: Final = ("agenttask-runner", "--check")
_TMPFS: Final = "rw,exec,nosuid,mode=1777"
_POLL_SECONDS: Final = 1.0
_MISSING: Final = 127
"""What container tools exit with when the command is not in the image."""
_NOT_STARTED: Final = 125
"""When they start nothing: they have no daemon, or there is no such image."""


class CannotCheck(Exception):
    """The image could not be started at all; the message says why and what to do."""


class Runs(Protocol):
    """Runs a command line; as `subprocess.run` with text."""

    def __call__(self, argv: Sequence[str], *, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Standard output and error are captured."""
        ...


def run(argv: Sequence[str], *, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """A real command."""
    return subprocess.run(list(argv), input=stdin, capture_output=True, text=True, check=False)  # noqa: S603 - argv, no shell


def choose_tool(wished: str | None, which: Callable[[str], str | None] = shutil.which) -> str:
    """The tool to start the image with.

    Raises:
        CannotCheck: it is not there, or none is.
    """
    for tool in TOOLS if wished is None else (wished,):
        if which(tool) is not None:
            return tool
    raise CannotCheck(f"{wished or ', '.join(TOOLS)} is not in PATH; install one of {', '.join(TOOLS)}, or choose it with --with")


def check_image(image: str, tool: str, *, timeout: float, name: str, run: Runs = run, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Print what the image keeps of the contract; whether it keeps all of it.

    Raises:
        CannotCheck: the image does not start.
    """
    code, said, error = (
        _in_cluster(image, timeout, name, run, sleep)
        if tool == "kubectl"
        else _on_this_machine(image, tool, run(local_command(image, tool)))
    )
    sys.stdout.write(said)
    if not any(line.startswith(("ok", "FAIL")) for line in said.splitlines()):
        last = error.strip().rpartition("\n")[2] or "it said nothing"  # of a traceback the line that says what is missing
        raise CannotCheck(f"{image} has no runner that can check itself (exit code {code}): {last}")
    return code == 0


def local_command(image: str, tool: str) -> tuple[str, ...]:
    """The command line for docker and its like."""
    return (
        *(tool, "run", "--rm", "--read-only", "--network", "none", "--user", f"{POD_UID}:{POD_UID}"),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--workdir", WORKSPACE_PATH),
        *("--tmpfs", f"{WORKSPACE_PATH}:{_TMPFS}", "--tmpfs", f"{SCRATCH_PATH}:{_TMPFS}"),
        *("--env", f"HOME={SCRATCH_PATH}", "--env", f"TMPDIR={SCRATCH_PATH}"),
        *("--entrypoint", COMMAND[0], image, *COMMAND[1:]),
    )


def _on_this_machine(image: str, tool: str, done: "subprocess.CompletedProcess[str]") -> tuple[int, str, str]:
    if done.returncode == _NOT_STARTED and done.stderr.strip():
        why = done.stderr.strip().partition("\n")[0]  # the lines after it are advice on the tool's own flags
        raise CannotCheck(f"{tool} cannot start {image}: {why}; --with chooses another tool")
    if done.returncode == _MISSING:
        raise CannotCheck(f"{image} has no {COMMAND[0]} in its PATH ({tool}: {done.stderr.strip()}); install agenttask[runner] into it")
    return done.returncode, done.stdout, done.stderr


def pod(image: str, name: str) -> dict[str, Any]:
    """The pod that tries the image; what is writable, who it runs as and what it may are a task pod's."""
    container = {
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(COMMAND),
        "workingDir": WORKSPACE_PATH,
        "env": [{"name": "HOME", "value": SCRATCH_PATH}, {"name": "TMPDIR", "value": SCRATCH_PATH}],
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}},
        "volumeMounts": [{"name": "workspace", "mountPath": WORKSPACE_PATH}, {"name": "scratch", "mountPath": SCRATCH_PATH}],
        "securityContext": dict(CONTAINER_SECURITY),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": 600,
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": POD_UID, "runAsGroup": POD_UID, "fsGroup": POD_UID},
            "volumes": [{"name": "workspace", "emptyDir": {}}, {"name": "scratch", "emptyDir": {}}],
            "containers": [container],
        },
    }


def _in_cluster(image: str, timeout: float, name: str, run: Runs, sleep: Callable[[float], None]) -> tuple[int, str, str]:
    """One pod, watched to its end, and deleted whatever comes."""
    context = run(("kubectl", "config", "current-context")).stdout.strip()
    sys.stderr.write(f"checking in the cluster of kubectl context {context!r}, as pod {name}\n")
    made = run(("kubectl", "create", "-f", "-"), stdin=json.dumps(pod(image, name)))
    if made.returncode:
        raise CannotCheck(f"the pod cannot be made: {made.stderr.strip()}")
    try:
        status = _ended(name, timeout, run, sleep)
        log = run(("kubectl", "logs", name))
    finally:
        run(("kubectl", "delete", "pod", name, "--wait=false"))
    ended = next((one.get("state", {}).get("terminated") for one in status.get("containerStatuses", [])), None) or {}
    lines = log.stdout.splitlines(keepends=True)  # standard error is in the log too
    said = "".join(line for line in lines if line.startswith(("ok  ", "FAIL")))
    return int(ended.get("exitCode", 1)), said, ended.get("message") or log.stderr or "".join(lines)


def _ended(name: str, timeout: float, run: Runs, sleep: Callable[[float], None]) -> dict[str, Any]:
    """The pod's status at its end.

    Raises:
        CannotCheck: it did not start in time; the message has what the kubelet says.
    """
    waited, why = 0.0, "it was not scheduled"
    while waited <= timeout:
        seen = run(("kubectl", "get", "pod", name, "-o", "json"))
        status: dict[str, Any] = json.loads(seen.stdout).get("status", {}) if seen.returncode == 0 else {}
        if status.get("phase") in ("Succeeded", "Failed"):
            return status
        for one in status.get("containerStatuses", []):
            waiting = one.get("state", {}).get("waiting")
            if waiting:
                why = f"{waiting.get('reason', '')}: {waiting.get('message', '')}".strip(": ")
                if waiting.get("reason") in ("ErrImageNeverPull", "InvalidImageName", "CreateContainerError", "RunContainerError"):
                    raise CannotCheck(f"the image does not start: {why}")
        sleep(_POLL_SECONDS)
        waited += _POLL_SECONDS
    raise CannotCheck(f"the image did not run within {timeout:g} s (--timeout): {why}")
