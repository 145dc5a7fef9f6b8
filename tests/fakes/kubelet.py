"""A kubelet and a scheduler that run no container: on a real API server, each pod does what the test's script says.

    async def script(pod: FakePod) -> None:
        await pod.start()
        await pod.end(said("done"))

A pod that is being deleted ends with exit code 143 and the report of a runner that was stopped, unless its node is lost.
Writes wait out an API server that is away, and are for nothing once the pod is gone.
"""

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any, Final

from agenttask.api import report as reports
from agenttask.api.reasons import Reason
from agenttask.api.report import ErrorReport, Report, StepReport
from tests.faults.api import Api, Object, Refused
from tests.faults.paths import path

CONTAINER: Final = "runner"
ATTEMPT: Final = "agenttask.dev/attempt"


class FakePod:
    """One pod in its kubelet's hands."""

    def __init__(self, api: Api, body: Object, node: str) -> None:
        self._api, self._node = api, node
        self.body = body
        meta = body["metadata"]
        self.name, self.uid = str(meta["name"]), str(meta["uid"])
        self.task = str(meta.get("labels", {}).get("agenttask.dev/task-name", ""))
        self.attempt = int(meta.get("labels", {}).get(ATTEMPT, "1"))
        self._path = path("pods", meta["namespace"], self.name)
        self._bound = bool(body.get("spec", {}).get("nodeName"))
        self._started_at: str | None = None
        self.ended = False
        self.lost = False
        """Its node is gone: it says nothing more, and its deletion is never confirmed."""
        self.clock = 0.0
        """How many seconds its node's clock is ahead."""

    async def bind(self) -> None:
        """The scheduler finds a node."""
        if not self._bound:
            target = {"apiVersion": "v1", "kind": "Node", "name": self._node}
            body = {"metadata": {"name": self.name, "uid": self.uid}, "target": target}
            try:
                await self._api.create(f"{self._path}/binding", body)
            except Refused as refused:
                if refused.status not in (404, 409):
                    raise
            self._bound = True

    async def start(self) -> None:
        """The container runs."""
        await self.bind()
        self._started_at = self._now()
        await self._status({"phase": "Running", "startTime": self._started_at}, {"running": {"startedAt": self._started_at}})

    async def end(self, message: str = "", code: int = 0, reason: str = "") -> None:
        """The container ends; `message` is its report."""
        await self.bind()
        ended = {
            "exitCode": code,
            "reason": reason or ("Error" if code else "Completed"),
            "startedAt": self._started_at or self._now(),
            "finishedAt": self._now(),
        }
        await self._status({"phase": "Failed" if code else "Succeeded"}, {"terminated": ended | ({"message": message} if message else {})})
        self.ended = True

    async def waiting(self, reason: str, message: str = "") -> None:
        """The container waits: ImagePullBackOff, CreateContainerConfigError, InvalidImageName."""
        await self.bind()
        await self._status({"phase": "Pending"}, {"waiting": {"reason": reason, "message": message}})

    async def unschedulable(self, message: str = "0/1 nodes are available: 1 Insufficient cpu.") -> None:
        """The scheduler finds no node."""
        await self._write({"phase": "Pending", "conditions": [self._condition("PodScheduled", "False", "Unschedulable", message)]})

    async def unprepared(self) -> None:
        """The node takes the pod, and does not prepare the devices of its claims."""
        await self.bind()
        conditions = [self._condition("PodScheduled", "True"), self._condition("PodReadyToStartContainers", "False")]
        await self._write({"phase": "Pending", "conditions": conditions})

    async def rejected(self, reason: str = "OutOfcpu", message: str = "Node didn't have enough resource: cpu") -> None:
        """The node's kubelet does not take the pod."""
        await self.bind()
        await self._write({"phase": "Failed", "reason": reason, "message": message})
        self.ended = True

    async def evicted(self, reason: str = "Evicted", message: str = "The node was low on resource: memory.") -> None:
        """The kubelet throws the pod out."""
        await self.bind()
        condition = self._condition("DisruptionTarget", "True", "TerminationByKubelet", message)
        await self._status(
            {"phase": "Failed", "reason": reason, "message": message, "conditions": [condition]}, {"terminated": self._killed()}
        )
        self.ended = True

    async def preempted(self) -> None:
        """A pod of higher priority takes the place: the scheduler marks it and deletes it."""
        await self._write({"conditions": [self._condition("DisruptionTarget", "True", "PreemptionByScheduler", "preempted")]})
        await self._api.delete(self._path, uid=self.uid)

    async def vanish(self) -> None:
        """Gone from the API server, as by pod garbage collection or `kubectl delete --force`."""
        await self._api.delete(self._path, uid=self.uid, grace=0)

    async def stopped(self) -> None:
        """The pod is being deleted: SIGTERM, the runner's last words, and the object goes."""
        if self.lost:
            return
        if not self.ended and self._started_at is not None:
            await self.end(_stopped(self.attempt), 143)
        await self.vanish()

    def _killed(self) -> Object:
        return {"exitCode": 137, "reason": "Error", "startedAt": self._started_at or self._now(), "finishedAt": self._now()}

    async def _status(self, status: Object, state: Object) -> None:
        running = "running" in state
        container = {
            "name": CONTAINER,
            "image": "runner:1",
            "imageID": "",
            "ready": running,
            "started": running,
            "restartCount": 0,
            "state": state,
        }
        conditions = [self._condition("PodScheduled", "True"), *status.pop("conditions", [])]
        await self._write(status | {"containerStatuses": [container], "conditions": conditions})

    async def _write(self, status: Object) -> None:
        try:
            await self._api.patch(f"{self._path}/status", {"metadata": {"uid": self.uid}, "status": status})
        except Refused as refused:
            if refused.status not in (404, 409):
                raise

    def _condition(self, kind: str, status: str, reason: str = "", message: str = "") -> dict[str, Any]:
        return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": self._now()}

    def _now(self) -> str:
        there = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=self.clock)
        return there.strftime("%Y-%m-%dT%H:%M:%SZ")


Script = Callable[[FakePod], Awaitable[None]]


class FakeKubelet:
    """Runs the script of every pod that the controller makes; feed it a recorder's versions."""

    def __init__(self, api: Api, script: Script, node: str) -> None:
        self._api, self._script, self._node = api, script, node
        self.pods: dict[str, FakePod] = {}
        """By uid, those that are gone too."""
        self._work: dict[str, asyncio.Task[None]] = {}
        self._stopping: set[str] = set()

    def seen(self, kind: str, body: Object) -> None:
        """A pod was made, changed, or is gone."""
        uid = body["metadata"]["uid"]
        if kind == "DELETED":
            self._cancel(uid)
        elif uid not in self.pods:
            if body["metadata"].get("labels", {}).get("agenttask.dev/task-uid"):
                self.pods[uid] = pod = FakePod(self._api, body, self._node)
                self._work[uid] = asyncio.create_task(self._run(self._script(pod)))
        elif body["metadata"].get("deletionTimestamp") and uid not in self._stopping:
            self._stopping.add(uid)
            self._cancel(uid)
            self._work[uid] = asyncio.create_task(self.pods[uid].stopped())

    async def stop(self) -> None:
        """No more; an error of a script is the test's."""
        for work in self._work.values():
            work.cancel()
        done = await asyncio.gather(*self._work.values(), return_exceptions=True)
        broken = next((one for one in done if isinstance(one, Exception)), None)
        if broken is not None:
            raise broken

    async def _run(self, script: Awaitable[None]) -> None:
        await script

    def _cancel(self, uid: str) -> None:
        work = self._work.get(uid)
        if work is not None:
            work.cancel()


def said(attempt: int = 1, output: str = "done") -> str:
    """The report of a run that went well."""
    return reports.encode(Report(attempt=attempt, done=True, started=1, steps=(StepReport(0, "S", 0, 5),), output=output)).decode()


def said_failed(attempt: int = 1, reason: Reason = Reason.STEP_FAILED, message: str = "exit code 1") -> str:
    """The report of a run whose step failed."""
    error = ErrorReport(reason=reason, message=message, step=0)
    return reports.encode(Report(attempt=attempt, done=True, started=1, steps=(StepReport(0, "F", 0, 5),), error=error)).decode()


def _stopped(attempt: int) -> str:
    error = ErrorReport(reason=Reason.LOST, message="stopped by SIGTERM")
    return reports.encode(Report(attempt=attempt, done=True, started=1, steps=(StepReport(0, "R", 0),), error=error)).decode()
