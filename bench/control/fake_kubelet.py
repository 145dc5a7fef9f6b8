"""A kubelet without containers for all nodes and all contenders: a pod that is bound runs for a while and succeeds.

    BENCH_API=... python -m bench.control.fake_kubelet --nodes 20 --run-seconds 0

It writes what a real one would at least: Running, then Succeeded with the container's last words, as strategic merge patches.
The last words are a runner's report, so that our controller finds what it reads on a real node; a Job's pod says the same.
"""

import argparse
import asyncio
import json
import time
from datetime import UTC, datetime
from typing import Any, Final

import uvloop
from bench.control.connection import MERGE_PATCH, STRATEGIC_PATCH, Access, Api, Refused
from bench.control.following import follow
from msgspec import Struct

from agenttask.api.report import Report, StepReport, encode

WRITERS: Final = 32
UNFINISHED: Final = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"


class Metadata(Struct, gc=False, rename="camel"):
    """Of a pod."""

    name: str
    namespace: str
    uid: str
    deletion_timestamp: str | None = None


class Container(Struct, gc=False):
    """Of a pod."""

    name: str


class Spec(Struct, gc=False):
    """Of a pod."""

    containers: list[Container]


class Pod(Struct, gc=False):
    """What the kubelet reads of it."""

    metadata: Metadata
    spec: Spec


def statuses(container: str, started: float, finished: float | None) -> bytes:
    """The patch of a pod's status while it runs, or after its end; times are Unix seconds."""
    begin = _moment(started)
    state: dict[str, Any]
    if finished is None:
        state = {"running": {"startedAt": begin}}
    else:
        report = encode(
            Report(started=int(started * 1000), done=True, steps=(StepReport(0, "S", 0, int((finished - started) * 1000)),), output="done")
        )
        state = {
            "terminated": {
                "exitCode": 0,
                "reason": "Completed",
                "message": report.decode(),
                "startedAt": begin,
                "finishedAt": _moment(finished),
            }
        }
    ready = "True" if finished is None else "False"
    conditions = [
        {"type": kind, "status": value} for kind, value in (("Initialized", "True"), ("Ready", ready), ("ContainersReady", ready))
    ]
    one = {"name": container, "image": "bench", "imageID": "bench", "restartCount": 0, "ready": finished is None, "state": state}
    phase = "Running" if finished is None else "Succeeded"
    status = {
        "phase": phase,
        "podIP": "10.1.1.1",
        "hostIP": "10.0.0.1",
        "startTime": begin,
        "conditions": conditions,
        "containerStatuses": [one],
    }
    return json.dumps({"status": status}).encode()


class Kubelet:
    """Walks pods through their life."""

    def __init__(self, api: Api, run_seconds: float) -> None:
        self._api, self._run_seconds = api, run_seconds
        self._known: set[str] = set()
        self._bound: asyncio.Queue[Pod] = asyncio.Queue()
        self._ended: asyncio.Queue[tuple[Pod, float]] = asyncio.Queue()

    def seen(self, kind: str, pod: Pod) -> None:
        """A bound pod that has not ended."""
        if kind != "DELETED" and pod.metadata.deletion_timestamp is None and pod.metadata.uid not in self._known:
            self._known.add(pod.metadata.uid)
            self._bound.put_nowait(pod)

    async def begin(self) -> None:
        """Write Running, then come back when it has run; for a pod that takes no time at once."""
        while True:
            pod = await self._bound.get()
            started = time.time()
            await self._write(pod, started, None)
            if self._run_seconds:
                asyncio.get_running_loop().call_later(self._run_seconds, self._ended.put_nowait, (pod, started))
            else:
                await self._write(pod, started, time.time())

    async def end(self) -> None:
        """Write Succeeded."""
        while True:
            pod, started = await self._ended.get()
            await self._write(pod, started, time.time())

    async def _write(self, pod: Pod, started: float, finished: float | None) -> None:
        path = f"/api/v1/namespaces/{pod.metadata.namespace}/pods/{pod.metadata.name}/status"
        try:
            await self._api.send("PATCH", path, statuses(pod.spec.containers[0].name, started, finished), STRATEGIC_PATCH)
        except Refused as error:  # deleted meanwhile
            print(error, flush=True)


async def register(api: Api, name: str) -> None:
    """A node that is ready and has room for everything."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}}
    room = {"cpu": "10000", "memory": "10000Gi", "pods": "20000", "ephemeral-storage": "100000Gi"}
    now = _moment(time.time())
    ready = {"type": "Ready", "status": "True", "reason": "Bench", "message": "", "lastHeartbeatTime": now, "lastTransitionTime": now}
    await api.send("POST", "/api/v1/nodes", json.dumps(node).encode())
    await api.send("PATCH", f"/api/v1/nodes/{name}", b'{"spec":{"taints":null}}', MERGE_PATCH)
    status = json.dumps({"status": {"capacity": room, "allocatable": room, "conditions": [ready]}}).encode()
    await api.send("PATCH", f"/api/v1/nodes/{name}/status", status, MERGE_PATCH)


async def serve(nodes: int, run_seconds: float) -> None:
    """Until it is killed."""
    async with Api(Access.of()) as api:
        for number in range(nodes):
            await register(api, f"bench-{number}")
        kubelet, listed = Kubelet(api, run_seconds), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(follow(api, "/api/v1/pods", Pod, kubelet.seen, ready=listed, fieldSelector=UNFINISHED))
            await listed.wait()
            print("ready", flush=True)
            for _ in range(WRITERS):
                group.create_task(kubelet.begin())
                group.create_task(kubelet.end())


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--run-seconds", type=float, required=True)
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.nodes, arguments.run_seconds))
