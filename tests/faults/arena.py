"""One run: a namespace, a controller with the chart's own rights behind a faulty proxy, a fake kubelet, and all that happened."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from agenttask.controller.line_keeper import STATUS_SECONDS, TICK_SECONDS
from tests.fakes.kubelet import FakeKubelet, FakePod, said
from tests.faults.api import Api, Object, Refused
from tests.faults.checker import TERMINAL, End, History, check, counted, unquiet
from tests.faults.clock import skewed
from tests.faults.control_plane import NODE, OPERATORS, ControlPlane, rendered, until_there
from tests.faults.controller import ControllerProcess
from tests.faults.eventually import PATIENCE
from tests.faults.history import Recorder, Version, Write, begun_after, read_writes
from tests.faults.launching import by_exec
from tests.faults.paths import path
from tests.faults.plan import Plan
from tests.faults.proxy import FaultProxy
from tests.faults.soak import SEED, SEED_VARIABLE, SOAK

QUIET_SECONDS: Final = 1.0
AGAIN_SECONDS: Final = STATUS_SECONDS + 2 * TICK_SECONDS
"""Longer than what comes again and again stays away."""
GONE_SECONDS: Final = 90.0
Script = Callable[[FakePod], Awaitable[None]]


class Arena:
    """Made by `arena`."""

    def __init__(self, stage: ControlPlane, api: Api, namespace: str, folder: Path, stack: AsyncExitStack, number: int) -> None:
        self.stage, self.api, self.namespace, self.seed = stage, api, namespace, number
        self._folder, self._stack = folder, stack
        self._offset = stage.audit.stat().st_size
        self.recorder = Recorder(api, namespace)
        self.kubelet = FakeKubelet(api, self._script, NODE)
        self.recorder.listeners.append(self._pod_seen)
        self.scripts: dict[str, Script] = {}
        """What the pods of a task do, by the task's name; the others end at once, and well."""
        self.secrets = [secrets.token_hex(16)]
        self.users: set[str] = set()
        self.fenced: set[str] = set()
        self.roles: list[Object] = []
        """The controllers' rights, as the chart makes them."""
        self.controllers: list[ControllerProcess] = []
        self._accounts: list[str] = []

    @property
    def controller(self) -> ControllerProcess:
        """The first."""
        return self.controllers[0]

    async def add_controller(
        self, name: str = "controller", *settings: str, watched: tuple[str, ...] = (), lease: int = 0, clock: float = 0.0
    ) -> tuple[ControllerProcess, FaultProxy, Plan]:
        """Another controller, with an account and a proxy of its own, not started yet.

        With `lease` seconds it stands for election; its clock is `clock` seconds ahead.
        """
        namespaces = (self.namespace, *watched)
        release = f"{self.namespace}-{name}"[:30].rstrip("-")
        objects = await asyncio.to_thread(rendered, release, namespaces)
        self.roles += objects
        for each in objects:
            plural = each["kind"].lower() + "s"
            await self.api.create(path(plural, each["metadata"].get("namespace")), each)
        self._accounts.append(next(each["metadata"]["name"] for each in objects if each["kind"] == "ServiceAccount"))
        self.users.add(f"system:serviceaccount:{OPERATORS}:{self._accounts[-1]}")
        elects = elected(self._accounts[-1], lease) if lease else ()
        return await self._controller(name, self._accounts[-1], namespaces, *settings, *elects, clock=clock)

    async def add_replica(self, lease: int, clock: float = 0.0) -> tuple[ControllerProcess, FaultProxy, Plan]:
        """Start a second replica of the first controller, with its account and behind another proxy, until it stands for election."""
        account = self._accounts[0]
        added = await self._controller("replica", account, (self.namespace,), *elected(account, lease), clock=clock)
        await self._stack.enter_async_context(added[0])
        await added[1].until(lambda seen: any(one.plural == "leases" for one in seen))
        return added

    async def _controller(
        self, name: str, account: str, namespaces: tuple[str, ...], *settings: str, clock: float = 0.0
    ) -> tuple[ControllerProcess, FaultProxy, Plan]:
        token = await self.token(account)
        plan = Plan(self.seed)
        proxy = await self._stack.enter_async_context(FaultProxy(self.stage.server, plan))
        environ = skewed(self.stage.folder, clock) if clock else {}
        launch = by_exec if SOAK or environ else self.stage.controllers.launch
        controller = ControllerProcess(self._folder, proxy.url, token, namespaces, *settings, name=name, launch=launch, environ=environ)
        self.controllers.append(controller)
        return controller, proxy, plan

    async def lease(self) -> Object | None:
        """The replicas' lease."""
        return await self.api.find(path("leases", OPERATORS, self._accounts[0]))

    async def delete_lease(self) -> None:
        """Delete it."""
        await self.api.delete(path("leases", OPERATORS, self._accounts[0]))

    async def denied(self, namespace: str) -> bool:
        """Whether the first controller may make no pod there: the API server learns of a changed binding a little later."""
        user = f"system:serviceaccount:{OPERATORS}:{self._accounts[0]}"
        asked = {"user": user, "resourceAttributes": {"namespace": namespace, "verb": "create", "resource": "pods"}}
        return not (await self.api.create(path("subjectaccessreviews"), {"spec": asked}))["status"]["allowed"]

    async def refuses(self, where: str, body: Object, why: str) -> bool:
        """Whether admission would refuse the object in these words by now: it learns of quotas and limits a little later."""
        try:
            await self.api.create(f"{where}?dryRun=All", body)
        except Refused as refused:
            return why in str(refused)
        return False

    async def token(self, account: str) -> str:
        """A new token of a controller's account; it must never show."""
        made = await self.api.create(path("serviceaccounts", OPERATORS, account, "token"), {"spec": {"expirationSeconds": 3600}})
        token = str(made["status"]["token"])
        self.secrets.append(token)
        return token

    async def run(self, controller: ControllerProcess) -> None:
        """Start a controller, until it decides."""
        await self._stack.enter_async_context(controller)
        await controller.ready()

    async def create(self, name: str, script: Script | None = None, **spec: Any) -> Object:
        """Create a task, whose pods do what the script says."""
        if script is not None:
            self.scripts[name] = script
        body = {"metadata": {"name": name}, "spec": {"steps": [{"name": "say", "exec": {"command": ["true"]}}], **spec}}
        whole = {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask"} | body
        return await self.api.create(path("agenttasks", self.namespace), whole)

    async def create_model(self, name: str) -> None:
        """Create an AgentModel."""
        body = {"metadata": {"name": name}, "spec": {"client": "scripted", "model": "none"}}
        await self.api.create(path("agentmodels", self.namespace), {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentModel"} | body)

    async def delete(self, name: str, **options: Any) -> None:
        """Delete a task."""
        await self.api.delete(path("agenttasks", self.namespace, name), **options)

    def writes(self, namespace: str = "") -> list[Write]:
        """The audit log of the run so far, for its namespace or another one."""
        return read_writes(self.stage.audit, self._offset, namespace or self.namespace)

    async def settled(self, ends: Mapping[str, End], *, seconds: float = PATIENCE) -> None:
        """Wait until every task stands as it should, or the time is over; what is wrong then is the checker's to say."""

        def there(name: str, end: End) -> bool:
            if end.gone:
                return self.recorder.task(name) is None
            status = self.recorder.status(name)
            seen = (status.get("phase", ""), status.get("reason", ""))
            return seen == (end.phase, end.reason) or seen[0] in TERMINAL

        try:
            await self.recorder.until(lambda: all(there(name, end) for name, end in ends.items()), seconds)
            owners = lambda: {each["metadata"]["uid"] for each in self._tasks()}  # noqa: E731
            await self.recorder.until(
                lambda: all(self._owner(pod) in owners() for pod in self.recorder.pods() if self._owner(pod)), GONE_SECONDS
            )
        except AssertionError:
            pass

    async def judge(self, ends: Mapping[str, End], *, seconds: float = PATIENCE) -> History:
        """Wait for the end, keep still for a while, and hold what happened to the invariants."""
        await self.settled(ends, seconds=seconds)
        writes, late = await self._still()
        history = History(
            versions=self.recorder.versions,
            writes=writes,
            users=frozenset(self.users),
            log="\n".join(one.log for one in self.controllers),
            secrets=self.secrets,
            fenced=frozenset(self.fenced),
            late=late,
            kills=sum(one.kills for one in self.controllers),
        )
        wrong = check(history, ends)
        assert not wrong, "\n".join([*wrong, self.recorder.summary(), self._story()])
        return history

    async def _still(self) -> tuple[list[Write], list[Write]]:
        """All writes, and those after all was still. After one that may have been begun before, it is seen whether it comes again."""
        still = datetime.now(UTC) + timedelta(seconds=0.2)  # what was begun may end
        queues = any(one.plural == "agentqueues" and counted(one, self.users) for one in self.writes())
        quiet, before = AGAIN_SECONDS if queues else QUIET_SECONDS, 0
        while True:
            await asyncio.sleep(quiet)
            writes = self.writes()
            late = begun_after(writes, still)
            ours = sum(counted(one, self.users) for one in late)
            if ours == before or unquiet(late, self.users):
                return writes, late
            quiet, before = AGAIN_SECONDS, ours

    def _story(self) -> str:
        """The end of the controller's log."""
        return "\n".join(f"--- {one.log_file.name}\n{one.log[-4000:]}" for one in self.controllers)

    def _tasks(self) -> list[Object]:
        return [one for (plural, _), one in self.recorder._current.items() if plural == "agenttasks"]

    @staticmethod
    def _owner(pod: Object) -> str:
        refs = pod["metadata"].get("ownerReferences") or []
        return next((str(one["uid"]) for one in refs if one["kind"] == "AgentTask"), "")

    async def _script(self, pod: FakePod) -> None:
        script = self.scripts.get(pod.task)
        if script is not None:
            await script(pod)
        else:
            await pod.start()
            await pod.end(said(pod.attempt))

    def _pod_seen(self, version: Version) -> None:
        if version.plural == "pods":
            self.kubelet.seen(version.kind, version.object)


def elected(account: str, lease: int) -> tuple[str, ...]:
    """The settings of election by the Lease that the chart's Role of this account allows; times are in seconds."""
    values = {"enabled": "true", "leaseName": account, "namespace": OPERATORS, "leaseSeconds": lease, "renewSeconds": lease - 1}
    return tuple(f"leaderElection.{name}={value}" for name, value in values.items())


async def disconnected(seconds: float = 0.3) -> None:
    """Wait until TLS connections that were closed have ended, and break the others: the loop is closed next, and would leave them open."""
    loop = asyncio.get_running_loop()
    transports: Mapping[int, asyncio.Transport] = getattr(loop, "_transports", {})
    ends = loop.time() + seconds
    while transports and loop.time() < ends:  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.02)
    for one in list(transports.values()):
        one.abort()
    for _ in range(5):  # each end is told to the next layer in the loop's next round, however long one takes
        await asyncio.sleep(0.01)


@asynccontextmanager
async def arena(
    stage: ControlPlane,
    folder: Path,
    name: str,
    *settings: str,
    number: int | None = None,
    start: bool = True,
    others: int = 0,
    lease: int = 0,
    clock: float = 0.0,
) -> AsyncIterator[tuple[Arena, FaultProxy, Plan]]:
    """A run with one controller; its proxy and plan are handed out beside it.

    With `lease` seconds it stands for election; its clock is `clock` seconds ahead. `others` are further namespaces that it
    watches, named after the first: nobody records what happens there.
    """
    namespace = re.sub(r"[^a-z0-9]+", "-", name.lower())[:16].strip("-") + f"-{secrets.token_hex(2)}"
    folder = folder / namespace
    folder.mkdir()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(disconnected)
        api = await stack.enter_async_context(stage.api())
        watched = tuple(f"{namespace}-{number}" for number in range(others))
        for each in (namespace, *watched):
            await api.create(path("namespaces"), {"metadata": {"name": each}})
            await until_there(api, path("serviceaccounts", each, "default"))
        here = Arena(stage, api, namespace, folder, stack, SEED if number is None else number)
        secret = {"metadata": {"name": "canary"}, "stringData": {"value": here.secrets[0]}}
        await api.create(path("secrets", namespace), secret)
        await stack.enter_async_context(here.recorder)
        stack.push_async_callback(here.kubelet.stop)
        controller, proxy, plan = await here.add_controller("controller", *settings, watched=watched, lease=lease, clock=clock)
        if start:
            await here.run(controller)
        try:
            yield here, proxy, plan
        except BaseException as error:
            error.add_note(f"seed {here.seed}: {SEED_VARIABLE}={here.seed} replays it")
            raise
        if SOAK:  # a short run is over before its leftovers are in anybody's way, and taking them away costs as much as a test
            for each in (namespace, *watched):
                await api.delete(path("namespaces", name=each))


Open = Callable[..., AbstractAsyncContextManager[tuple[Arena, FaultProxy, Plan]]]
"""What the fixture `run` gives: `async with run() as (here, proxy, plan)`."""
