"""Applies AgentTasks and follows them to their results with kubectl, as a person would in several terminals.

    python3 -m scripts.follow --namespace NAMESPACE FILE...

Each change of a task's status is a line, and so is each line of its pod's log. At the end there is a table, and each
output in full. The exit status is 0 when every task ended as its example says (`broken` fails, the others succeed).
Only the standard library is used: this runs without a virtual environment.
"""

import argparse
import json
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from scripts.table import columns, wrap

WAIT_SECONDS = 900
POLL_SECONDS = 0.5
RESULT_CHARACTERS = 150
EXPECTED_TO_FAIL = {"broken"}


class Kubectl:
    """kubectl in one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def __call__(self, *arguments: str) -> str:
        """Standard output; a failure ends the program with kubectl's own words."""
        done = subprocess.run(["kubectl", "-n", self.namespace, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def tasks(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The named AgentTasks, as they are now."""
        listed: list[dict[str, Any]] = json.loads(self("get", "agenttasks", "-o", "json"))["items"]
        return {each["metadata"]["name"]: each for each in listed if each["metadata"]["name"] in names}


class Screen:
    """Lines from several threads, each with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._lock = threading.Lock()
        self._colours = sys.stdout.isatty()

    def line(self, name: str, text: str, *, faint: bool = False) -> None:
        """One line about a task."""
        shown = f"{time.monotonic() - self._start:5.0f} s  {name:<11} {text}"[:180]
        with self._lock:
            print(f"\033[2m{shown}\033[0m" if faint and self._colours else shown, flush=True)


def summary(status: dict[str, Any]) -> str:
    """What a status says, in one line."""
    parts = [status.get("phase", "Queued")]
    if status.get("reason") not in (None, status.get("phase")):
        parts.append(f"({status['reason']})")
    if status.get("progress"):
        parts.append(status["progress"])
    if status.get("device", {}).get("class"):
        parts.append(f"on {status['device']['class']}")
    if status.get("message"):
        parts.append(f"- {status['message']}")
    return " ".join(parts)


def stream_log(kubectl: Kubectl, screen: Screen, name: str, pod: str) -> threading.Thread:
    """Show a pod's log from its start to its end."""

    def follow() -> None:
        command = ["kubectl", "-n", kubectl.namespace, "logs", "--follow", "--pod-running-timeout=5m", pod]
        for _ in range(120):  # until the container has started
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
                seen = False
                for line in process.stdout or ():
                    seen = True
                    screen.line(name, f"| {line.partition(' ')[2].strip()}", faint=True)
            if seen:
                return
            time.sleep(0.5)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    return thread


def follow(kubectl: Kubectl, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Show what happens until all have ended; the tasks as they are then."""
    screen = Screen()
    said: dict[str, str] = {}
    logs: dict[str, threading.Thread] = {}
    end = time.monotonic() + WAIT_SECONDS
    while True:
        tasks = kubectl.tasks(names)
        for name, task in tasks.items():
            status = task.get("status", {})
            if said.get(name) != (now := summary(status)):
                said[name] = now
                screen.line(name, now)
        for pod in json.loads(kubectl("get", "pods", "-l", "agenttask.dev/task-name", "-o", "json"))["items"]:
            task_name = pod["metadata"]["labels"]["agenttask.dev/task-name"]
            if task_name in names and pod["metadata"]["name"] not in logs:
                logs[pod["metadata"]["name"]] = stream_log(kubectl, screen, task_name, pod["metadata"]["name"])
        if all(task.get("status", {}).get("phase") in ("Succeeded", "Failed") for task in tasks.values()) and len(tasks) == len(names):
            break
        if time.monotonic() > end:
            print(f"not all ended within {WAIT_SECONDS} s; `kubectl -n {kubectl.namespace} describe pods` shows more", file=sys.stderr)
            break
        time.sleep(POLL_SECONDS)
    for thread in logs.values():
        thread.join(timeout=5)
    return tasks


def took(status: dict[str, Any], created: str) -> str:
    """Seconds from creation to completion, and how many of them the pod ran."""
    if "completionTime" not in status:
        return "-"
    done = datetime.fromisoformat(status["completionTime"])
    total = (done - datetime.fromisoformat(created)).total_seconds()
    ran = (done - datetime.fromisoformat(status["startTime"])).total_seconds() if status.get("startTime") else 0
    return f"{total:.0f} s ({ran:.0f} s)"


def considered(status: dict[str, Any]) -> str:
    """The device class, and the verdict on each that was not taken."""
    device: dict[str, Any] = status.get("device", {})
    taken: str = device.get("class", "-")
    passed_by = [f"{each['class']}: {each['verdict']}" for each in device.get("considered", ()) if each["class"] != taken]
    return taken + (f"; {'; '.join(passed_by)}" if passed_by else "")


def row(name: str, task: dict[str, Any]) -> list[str]:
    """One line of the table."""
    status = task.get("status", {})
    result = textwrap.shorten(status.get("output") or status.get("message") or "", RESULT_CHARACTERS, placeholder=" ...")
    created = task["metadata"]["creationTimestamp"]
    return [
        name,
        status.get("phase", ""),
        status.get("reason", ""),
        status.get("progress", "-"),
        took(status, created),
        considered(status),
        result,
    ]


def report(tasks: dict[str, dict[str, Any]], names: Sequence[str]) -> None:
    """The table, and the outputs in full."""
    head = ["TASK", "PHASE", "REASON", "STEPS", "TOOK (RAN)", "DEVICE", "RESULT"]
    print()
    for line in columns([head, *(row(name, tasks[name]) for name in names if name in tasks)], widths={5: 34, 6: 52}):
        print(line)
    for name in names:
        status = tasks.get(name, {}).get("status", {})
        if status.get("output"):
            print(f"\n{name}:")
            for line in wrap(status["output"], 116):
                print(f"    {line}".rstrip())


def next_steps(namespace: str, cluster: str) -> None:
    """What a newcomer can try."""
    prefix = "" if cluster == "current" else 'eval "$(scripts/cluster env)"\n    '
    print(f"""
Try next:
    {prefix}kubectl -n {namespace} get agenttasks -o wide
    kubectl -n {namespace} describe at gpu-first            # the verdict on each device class, the conditions
    kubectl -n {namespace} logs -l agenttask.dev/task-name=code-agent
    kubectl explain agenttask.spec --recursive
    edit examples/rag.yaml (another question), then
    kubectl -n {namespace} delete at rag; kubectl -n {namespace} apply -f examples/rag.yaml
    make test; make bench; make cluster-down""")


def unexpected(tasks: dict[str, dict[str, Any]], names: Sequence[str]) -> list[str]:
    """The tasks that did not end as their examples say."""
    wanted = {name: "Failed" if name in EXPECTED_TO_FAIL else "Succeeded" for name in names}
    return [name for name in names if tasks.get(name, {}).get("status", {}).get("phase") != wanted[name]]


def main() -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(description="Applies AgentTasks and follows them to their results.")
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--cluster", default="current")
    parser.add_argument("files", nargs="+")
    arguments = parser.parse_args()
    kubectl = Kubectl(arguments.namespace)
    applied = kubectl("apply", "-o", "name", *(word for file in arguments.files for word in ("-f", file)))
    names = [line.rpartition("/")[2] for line in applied.split()]
    tasks = follow(kubectl, names)
    report(tasks, names)
    next_steps(arguments.namespace, arguments.cluster)
    if missed := unexpected(tasks, names):
        print(f"\nnot as expected: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
