"""What one task costs on a real cluster: API writes, apply → pod, memory and CPU, beside a batch Job in the same run.

    make bench        (or: python bench/task_life.py --tasks 30, with a cluster up and the images loaded)

Times and writes come from the API server's audit log (one JSON line a write, microseconds), so nothing is sampled.
"apply → pod" is the time from the API server's answer to the POST of the task (or Job) until the POST of its pod is received:
what the controller adds. One-node clusters are noisy: trust the ratio to the Job controller and the counts.
"""

import argparse
import json
import os
import pathlib
import secrets
import statistics
import sys
import time
from collections import Counter
from datetime import datetime
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from tests.e2e.cluster import Namespace
from tests.e2e.conftest import install, uninstall


def task(index: int) -> dict[str, Any]:
    """A task of one step that takes no time."""
    steps = [{"name": "a", "write": {"path": "a.txt", "content": "x"}}]
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": f"task-{index}"}, "spec": {"steps": steps}}


def job(index: int, image: str) -> dict[str, Any]:
    """A Job that does as little."""
    container = {"name": "a", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["true"]}
    pod = {"spec": {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]}}
    spec = {"template": pod, "backoffLimit": 0}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": f"job-{index}"}, "spec": spec}


def audit(path: str, namespace: str) -> list[dict[str, Any]]:
    """The writes to one namespace, in order."""
    with pathlib.Path(path).open() as lines:
        events = [json.loads(line) for line in lines if f'"{namespace}"' in line]
    return [event for event in events if event.get("objectRef", {}).get("namespace") == namespace]


def moment(event: dict[str, Any], which: str) -> float:
    """A time of an audit event, in seconds."""
    return datetime.fromisoformat(event[which]).timestamp()


def reaction(events: list[dict[str, Any]], resource: str, controller: str) -> list[float]:
    """Milliseconds from each owner's creation to its pod's; owners come one after another, so the order pairs them."""
    owners = [moment(e, "stageTimestamp") for e in events if e["verb"] == "create" and e["objectRef"]["resource"] == resource]
    pods = [
        moment(e, "requestReceivedTimestamp")
        for e in events
        if (e["verb"], e["objectRef"]["resource"]) == ("create", "pods") and controller in e["user"]["username"]
    ]
    return [(pod - owner) * 1000 for owner, pod in zip(owners, pods, strict=False)]


def controller_pid() -> int | None:
    """The controller's process on this machine, where the cluster's node is this machine."""
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(part.endswith(b"/agenttask-controller") for part in command[:3]):
                return int(entry.name)
    return None


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=30)
    parser.add_argument("--audit", default=os.environ.get("LK_AUDIT", ""), help="the API server's audit log")
    arguments = parser.parse_args()
    images = {name: os.environ[f"IMAGE_{name.upper().replace('-', '_')}"] for name in ("controller", "runner", "runner-demo")}
    namespace = Namespace(name=f"bench-{secrets.token_hex(3)}", environment=dict(os.environ))
    try:
        install(namespace, images)
        time.sleep(5)
        pid = controller_pid()
        idle = memory_mib(pid) if pid else float("nan")
        before = cpu_seconds(pid) if pid else float("nan")
        for index in range(arguments.tasks):
            namespace.apply(task(index))
            namespace.ended(f"task-{index}")
        spent = cpu_seconds(pid) - before if pid else float("nan")
        for index in range(arguments.tasks):
            namespace.apply(job(index, images["runner"]))
            namespace.kubectl("wait", "--for=condition=Complete", f"job/job-{index}", "--timeout=60s")
        first_step = {"steps": [{"name": "a", "exec": {"command": ["cat", "/proc/1/stat"]}}]}
        namespace.apply({"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": "cpu"}, "spec": first_step})
        fields = namespace.ended("cpu")["output"].rsplit(")", 1)[1].split()
        start_cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        events = audit(arguments.audit, namespace.name) if arguments.audit else []
    finally:
        uninstall(namespace)
    ours = [
        e
        for e in events
        if e["user"]["username"].startswith(f"system:serviceaccount:{namespace.name}:") and e["objectRef"]["resource"] != "events"
    ]
    ours = [e for e in ours if e["objectRef"].get("name", "").startswith("task-")]
    writes = Counter(
        f"{e['verb']} {e['objectRef']['resource']}{'/' + e['objectRef']['subresource'] if e['objectRef'].get('subresource') else ''}"
        for e in ours
    )
    tasks_ms, jobs_ms = reaction(events, "agenttasks", namespace.name), reaction(events, "jobs", "job-controller")
    print(f"controller, idle                 {idle:8.1f} MiB resident")
    print(f"controller, CPU a task           {1000 * spent / arguments.tasks:8.1f} ms")
    print(f"controller, writes a task        {len(ours) / arguments.tasks:8.2f}   {dict(writes)}")
    if tasks_ms and jobs_ms:
        print(f"apply → pod, AgentTask p50       {statistics.median(tasks_ms):8.1f} ms  (n={len(tasks_ms)})")
        print(f"apply → pod, Job p50             {statistics.median(jobs_ms):8.1f} ms  (n={len(jobs_ms)})")
        print(f"ratio AgentTask ÷ Job            {statistics.median(tasks_ms) / statistics.median(jobs_ms):8.2f}")
    print(f"runner, CPU until the first step {start_cpu:8.2f} s")


if __name__ == "__main__":
    main()
