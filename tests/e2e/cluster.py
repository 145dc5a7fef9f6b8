"""What the end-to-end tests ask of a cluster, through the programs that a user has: kubectl and helm."""

import json
import subprocess
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import yaml

FINAL = ("Succeeded", "Failed", "Cancelled")


class Namespace(msgspec.Struct, frozen=True, kw_only=True):
    """One namespace, by kubectl."""

    name: str
    environment: dict[str, str]

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True, timeout: float = 120) -> str:
        """Run kubectl here; its standard output. A failure raises with its standard error."""
        done = subprocess.run(
            ["kubectl", "-n", self.name, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments)} exited {done.returncode}: {done.stderr}")
        return done.stdout

    def apply(self, *manifests: dict[str, Any] | str) -> None:
        """Apply objects, as structures or as YAML."""
        text = "\n---\n".join(each if isinstance(each, str) else yaml.safe_dump(each) for each in manifests)
        self.kubectl("apply", "-f", "-", stdin=text)

    def tasks(self) -> dict[str, dict[str, Any]]:
        """Every AgentTask by name."""
        listed: list[dict[str, Any]] = json.loads(self.kubectl("get", "agenttasks", "-o", "json"))["items"]
        return {each["metadata"]["name"]: each for each in listed}

    def pods(self, selector: str = "") -> list[dict[str, Any]]:
        """Pods, by a label selector."""
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]
        return found

    def until(self, name: str, holds: Callable[[dict[str, Any]], object], *, seconds: float) -> dict[str, Any]:
        """The task once `holds(status)`; an error that shows its status when it does not come true in time."""
        end = time.monotonic() + seconds
        while True:
            task: dict[str, Any] = json.loads(self.kubectl("get", "agenttask", name, "-o", "json"))
            status: dict[str, Any] = task.get("status", {})
            if holds(status):
                return status
            if time.monotonic() > end:
                raise AssertionError(f"{name} after {seconds} s: {json.dumps(status, indent=1)}\n{self.explain(name)}")
            time.sleep(0.5)

    def ended(self, name: str, *, seconds: float = 180) -> dict[str, Any]:
        """The status of a task that ended."""
        return self.until(name, lambda status: status.get("phase") in FINAL, seconds=seconds)

    def all_ended(self, names: Iterable[str], *, seconds: float) -> dict[str, dict[str, Any]]:
        """Statuses of all named tasks once every one has ended."""
        wanted = set(names)
        end = time.monotonic() + seconds
        while True:
            found = {name: task.get("status", {}) for name, task in self.tasks().items() if name in wanted}
            running = [name for name in wanted if found.get(name, {}).get("phase") not in FINAL]
            if not running:
                return found
            if time.monotonic() > end:
                raise AssertionError(f"still not ended after {seconds} s: {sorted(running)}")
            time.sleep(1)

    def explain(self, name: str) -> str:
        """What a person would look at: the pod and its log."""
        selector = f"agenttask.dev/task-name={name}"
        described = self.kubectl("describe", "pods", "-l", selector, check=False)
        return described[-3000:] + self.kubectl("logs", "-l", selector, "--tail=30", check=False)


def step_phases(status: dict[str, Any]) -> list[str | None]:
    """The phase of each step; None where its turn has not come."""
    return [one.get("phase") for one in status.get("steps", [])]


def node_folder(volume: str, *, claim: str, mode: str) -> list[dict[str, Any]]:
    """A folder of the node as a PersistentVolume of this name, and the claim that is bound to it."""
    common = {"accessModes": [mode], "storageClassName": "by-hand"}
    source = {"hostPath": {"path": f"/tmp/{volume}", "type": "DirectoryOrCreate"}, "persistentVolumeReclaimPolicy": "Retain"}
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {**common, **source, "capacity": {"storage": "1Mi"}},
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim},
            "spec": {**common, "volumeName": volume, "resources": {"requests": {"storage": "1Mi"}}},
        },
    ]
