"""A scheduler and kubelet for the fake API server: walks pods to their end as a script says."""

import asyncio
import datetime as dt
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from tests.fakes.apiserver_resources import BY_PLURAL, Target
from tests.fakes.apiserver_store import Change, Store

Object = dict[str, Any]


class PodRun(Struct, frozen=True, kw_only=True):
    """What becomes of a pod; with both times 0 it has ended before its creation is answered."""

    message: str = ""
    """The termination message: the runner's report."""
    exit_code: int = 0
    reason: str = ""
    """The container's reason; default Completed or Error. OOMKilled is one."""
    start_seconds: float = 0.0
    run_seconds: float = 0.0


class FakeKubelet:
    """Writes the status of pods; its writes are not in the server's request log."""

    def __init__(self, store: Store, node: str = "node-1") -> None:
        self._store = store
        self._node = node
        self._script: Callable[[Object], PodRun | None] | None = None
        self._walks: set[asyncio.Task[None]] = set()
        store.listeners.append(self._seen)

    def auto_run(self, script: Callable[[Object], PodRun | None] | None = lambda _: PodRun()) -> None:
        """Run every pod that is created from now on as `script(pod)` says; None leaves that pod Pending."""
        self._script = script

    async def run_pod(self, name: str, message: str = "", exit_code: int = 0, *, namespace: str = "default", **rest: Any) -> Object:
        """Walk a pod through Running to its end; the final pod. `rest` as in PodRun."""
        await self._walk(namespace, name, PodRun(message=message, exit_code=exit_code, **rest))
        return self._store.get(_target(namespace, name))

    def start(self, name: str, *, namespace: str = "default") -> None:
        """Schedule a pod and let its container run."""
        self._bind(namespace, name)
        self.set_status(name, _running(self._container(namespace, name)), namespace=namespace)

    def end(self, name: str, message: str = "", exit_code: int = 0, *, namespace: str = "default", reason: str = "") -> None:
        """Let a pod's container end."""
        run = PodRun(message=message, exit_code=exit_code, reason=reason)
        self.set_status(name, _ended(self._container(namespace, name), run, self._started(namespace, name)), namespace=namespace)

    def unschedulable(self, name: str, message: str = "0/1 nodes are available.", *, namespace: str = "default") -> None:
        """The scheduler finds no node."""
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message, "lastTransitionTime": _now()}
        self.set_status(name, {"phase": "Pending", "conditions": [condition]}, namespace=namespace)

    def waiting(self, name: str, reason: str, message: str = "", *, namespace: str = "default") -> None:
        """The container waits: ErrImagePull, ImagePullBackOff, InvalidImageName, CreateContainerConfigError."""
        self._bind(namespace, name)
        state = {"waiting": {"reason": reason, "message": message}}
        container = {"name": self._container(namespace, name), "ready": False, "restartCount": 0, "state": state}
        self.set_status(name, {"phase": "Pending", "containerStatuses": [container]}, namespace=namespace)

    def evict(self, name: str, reason: str = "Evicted", message: str = "", *, namespace: str = "default") -> None:
        """The pod fails as a whole: Evicted, DeadlineExceeded, Preempting, NodeLost."""
        self.set_status(name, {"phase": "Failed", "reason": reason, "message": message}, namespace=namespace)

    def set_status(self, name: str, status: Object, *, namespace: str = "default") -> None:
        """Merge something into a pod's status."""
        self._store.patch(_target(namespace, name, "status"), {"status": status})

    def finish_deletion(self, name: str, *, namespace: str = "default") -> None:
        """End a pod that is Terminating (a graceful server only marks it)."""
        self._store.delete(_target(namespace, name), {"gracePeriodSeconds": 0}, graceful=False)

    async def stop(self) -> None:
        """Give up the walks under way."""
        for walk in self._walks:
            walk.cancel()
        await asyncio.gather(*self._walks, return_exceptions=True)

    def _seen(self, change: Change) -> None:
        if self._script is None or change.before is not None or change.after is None or change.resource.plural != "pods":
            return
        run = self._script(change.after)
        if run is not None:
            meta = change.after["metadata"]
            walk = asyncio.get_running_loop().create_task(self._walk(meta["namespace"], meta["name"], run, uid=meta["uid"]))
            self._walks.add(walk)
            walk.add_done_callback(self._walks.discard)

    async def _walk(self, namespace: str, name: str, run: PodRun, *, uid: str | None = None) -> None:
        for seconds, step in ((run.start_seconds, None), (run.run_seconds, run)):
            if seconds:
                await asyncio.sleep(seconds)
            pod = self._store.find("pods", namespace, name)
            if pod is None or (uid is not None and pod["metadata"]["uid"] != uid):
                return
            if step is None:
                self.start(name, namespace=namespace)
            else:
                self.end(name, step.message, step.exit_code, namespace=namespace, reason=step.reason)

    def _bind(self, namespace: str, name: str) -> None:
        self._store.patch(_target(namespace, name), {"spec": {"nodeName": self._node}})

    def _container(self, namespace: str, name: str) -> str:
        containers = self._store.get(_target(namespace, name)).get("spec", {}).get("containers") or [{}]
        return str(containers[0].get("name", "runner"))

    def _started(self, namespace: str, name: str) -> str:
        containers = self._store.get(_target(namespace, name)).get("status", {}).get("containerStatuses") or [{}]
        running = containers[0].get("state", {}).get("running") or {}
        return str(running.get("startedAt") or _now())


def _target(namespace: str, name: str, subresource: str | None = None) -> Target:
    return Target(resource=BY_PLURAL["pods"], namespace=namespace, name=name, subresource=subresource)


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _running(container: str) -> Object:
    return {
        "phase": "Running",
        "startTime": _now(),
        "conditions": [{"type": kind, "status": "True", "lastTransitionTime": _now()} for kind in ("PodScheduled", "Initialized", "Ready")],
        "containerStatuses": [
            {"name": container, "ready": True, "started": True, "restartCount": 0, "state": {"running": {"startedAt": _now()}}}
        ],
    }


def _ended(container: str, run: PodRun, started: str) -> Object:
    terminated = {
        "exitCode": run.exit_code,
        "reason": run.reason or ("Error" if run.exit_code else "Completed"),
        "startedAt": started,
        "finishedAt": _now(),
    }
    if run.message:
        terminated["message"] = run.message
    return {
        "phase": "Failed" if run.exit_code else "Succeeded",
        "containerStatuses": [{"name": container, "ready": False, "restartCount": 0, "state": {"terminated": terminated}}],
    }
