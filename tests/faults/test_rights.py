"""F5, F15: rights, tokens and namespaces that are taken away and come back, without a restart; and that each right is needed."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web
from msgspec import structs

from agenttask.api.constants import LABEL_MANAGED_BY, MANAGED_BY
from agenttask.api.gateway import CHECKPOINT_PATH
from tests.fakes.kubelet import FakePod, said
from tests.faults.arena import Arena, Open
from tests.faults.checker import End
from tests.faults.eventually import eventually
from tests.faults.lives import SUCCEEDED, ends, live
from tests.faults.paths import path
from tests.faults.plan import on, watching
from tests.faults.proxy import Exchange
from tests.faults.request import Request
from tests.faults.request_faults import answered
from tests.faults.soak import SOAK
from tests.faults.stream_faults import ended
from tests.faults.test_gateway import flags
from tests.unit.controller.gateway.test_whole import Runner

CLASSES = "deviceClasses=[{name: cpu, kind: cpu}, {name: claimed, kind: cpu, resourceClaimTemplate: one}]"
TASK = {
    "apiVersion": "agenttask.dev/v1alpha1",
    "kind": "AgentTask",
    "metadata": {"name": "poor"},
    "spec": {"steps": [{"name": "say", "exec": {"command": ["true"]}}]},
}


async def test_rights_in_one_of_two_namespaces_are_revoked_and_restored(run: Open) -> None:
    """403 for every list, watch and write there; the other namespace's tasks do not notice."""
    async with run(others=1) as (here, _, plan):
        there = f"{here.namespace}-0"
        binding = next(one for one in here.roles if one["kind"] == "RoleBinding" and one["metadata"]["namespace"] == there)
        where = path("rolebindings", there)
        await here.api.delete(f"{where}/{binding['metadata']['name']}")
        await eventually(lambda: here.denied(there), what="the end of the right")
        plan.add(lambda one: one.watch and one.namespace == there, ended(), times=10)
        await here.api.create(path("agenttasks", there), TASK)
        await live(here, "succeed", "fail")
        await here.recorder.until_phase("succeed", "Succeeded")
        await asyncio.sleep(2.0)
        assert "status" not in await here.api.get(path("agenttasks", there, "poor"))
        await here.api.create(where, binding)

        async def served() -> object:
            return (await here.api.get(path("pods", there)))["items"]

        await eventually(served, what="the pod of the task that had no rights")
        await here.judge(ends("succeed", "fail"))
        assert here.controller.restarts == 0


async def test_the_token_is_rotated(run: Open) -> None:
    """The old token is refused everywhere from one moment to the next; the file has the new one."""
    async with run() as (here, _, plan):
        old = here.controller.token_file.read_text()
        account = next(one["metadata"]["name"] for one in here.roles if one["kind"] == "ServiceAccount")
        fresh = await here.token(account)

        async def refuse_the_old(exchange: Exchange) -> web.StreamResponse:
            if exchange.authorization == f"Bearer {old}":
                body = b'{"kind":"Status","status":"Failure","reason":"Unauthorized","message":"expired","code":401}'
                return await exchange.answer((401, {"Content-Type": "application/json"}, body))
            return await exchange.forward()

        plan.add(watching(), ended(), times=3)
        plan.add(lambda _: True, refuse_the_old, times=None)
        living = asyncio.create_task(live(here))
        await asyncio.sleep(1.0)
        here.controller.replace_token(fresh)
        await living
        await here.judge(ends())
        assert here.controller.restarts == 0, here.controller.log[-3000:]


@pytest.mark.alone
async def test_the_crd_is_replaced(run: Open) -> None:
    """A new version of the CRD is applied under running tasks: watches end, and go on."""
    async with run() as (here, _, _):
        where = path("customresourcedefinitions", name="agenttasks.agenttask.dev")
        living = asyncio.create_task(live(here, "long", "waits", "succeed"))
        await asyncio.sleep(0.3)
        for value in ("a", "b"):
            crd = await here.api.get(where)
            versions = crd["spec"]["versions"]
            versions[0]["schema"]["openAPIV3Schema"]["description"] = f"Replaced: {value}"
            await here.api.patch(where, {"spec": {"versions": versions}})
        await living
        await here.judge(ends("long", "waits", "succeed"))
        assert here.controller.restarts == 0


def granted(here: Arena) -> set[tuple[str, str]]:
    """Verb and resource of each right that the chart gives the controller."""
    rules = [rule for role in here.roles if role["kind"] in ("Role", "ClusterRole") for rule in role["rules"]]
    return {(verb, resource) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}


def used(one: Request) -> tuple[str, str]:
    """The right that a request needs."""
    reads = "watch" if one.watch else "list" if one.lists else "get"
    verb = {"GET": reads, "POST": "create", "PATCH": "patch", "DELETE": "delete"}[one.method]
    return verb, one.plural + (f"/{one.subresource}" if one.subresource else "")


async def test_every_right_of_the_chart_is_used_and_no_other_is_needed(run: Open, tmp_path: Path) -> None:
    """One life with all that the controller does: conflicts, a pod out of its sight, queues, records, claims, deletions, election."""
    hands_on = asyncio.Event()

    async def script(pod: FakePod) -> None:
        await pod.start()
        runner = Runner(pod.body)
        if pod.attempt == 1:
            await here.recorder.until_phase("kept", "Running")
            stored = [(await runner.ask("PUT", CHECKPOINT_PATH, body))[0] for body in (b"one", b"two")]
            assert stored == [204, 204]
            hands_on.set()
        else:
            assert await runner.ask("GET", CHECKPOINT_PATH) == (200, b"two")
            await pod.end(said(pod.attempt))

    async def waits(pod: FakePod) -> None:
        await pod.start()

    async def claims(pod: FakePod) -> None:
        await pod.unprepared()
        await proxy.until(lambda seen: ("list", "events") in map(used, seen))
        await pod.start()
        await pod.end(said(pod.attempt))

    async with flags(tmp_path / "secret") as settings, run(*settings, CLASSES, lease=30) as (here, proxy, plan):
        queue = {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentQueue", "metadata": {"name": "one"}, "spec": {"concurrency": 1}}
        await here.api.create(path("agentqueues", here.namespace), queue)
        plan.add(on("PATCH", "agenttasks", subresource="status"), answered(409, "Conflict"))
        await here.create("claims", claims, device={"classes": ["claimed"]})
        await here.create("kept", script, retry={"backoff": {"initialSeconds": 1}}, queue="one")
        await here.recorder.until(hands_on.is_set, what=lambda: "a checkpoint in the record")
        await here.create("called-off", waits)
        await here.recorder.until_phase("called-off", "Running")
        await here.api.patch(path("agenttasks", here.namespace, "called-off"), {"spec": {"cancel": True}})
        kept = next(pod for pod in here.kubelet.pods.values() if pod.task == "kept")
        where = path("pods", here.namespace, kept.name)
        await here.api.patch(where, {"metadata": {"labels": {LABEL_MANAGED_BY: "somebody"}}})
        await proxy.until(lambda seen: ("get", "pods") in map(used, seen))
        await here.api.patch(where, {"metadata": {"labels": {LABEL_MANAGED_BY: MANAGED_BY}}})
        await kept.vanish()
        await here.create("brief", ttlSecondsAfterFinished=1)
        await here.recorder.until_phase("kept", "Succeeded")
        await proxy.until(lambda seen: ("patch", "agentqueues/status") in map(used, seen))
        cancelled = End(phase="Cancelled", reason="CancelledByUser")
        twice = structs.replace(SUCCEEDED, pods=2)
        await here.judge({"kept": twice, "called-off": cancelled, "brief": End(gone=True), "claims": SUCCEEDED})
        asked = {used(one) for one in proxy.seen if one.plural}
        assert asked == granted(here)


if SOAK:

    async def test_a_namespace_that_was_forbidden_from_the_start_holds_up_no_other(run: Open) -> None:
        """403 for all of it while the controller starts: the other namespace is served, this one once the right is there."""
        async with run(others=1, start=False) as (here, proxy, _):
            there = f"{here.namespace}-0"
            binding = next(one for one in here.roles if one["kind"] == "RoleBinding" and one["metadata"]["namespace"] == there)
            where = path("rolebindings", there)
            await here.api.delete(f"{where}/{binding['metadata']['name']}")
            await eventually(lambda: here.denied(there), what="the end of the right")
            await here.api.create(path("agenttasks", there), TASK)
            starting = asyncio.create_task(here.run(here.controller))
            await live(here, "succeed", "waits")
            await starting
            await here.recorder.until_phase("succeed", "Succeeded")
            assert f"namespace {there} is not served yet" in here.controller.log
            assert "status" not in await here.api.get(path("agenttasks", there, "poor"))
            assert not [one for one in proxy.seen if one.mutating and one.namespace == there]
            await here.api.create(where, binding)

            async def served() -> object:
                return (await here.api.get(path("pods", there)))["items"]

            await eventually(served, what="the pod of the task that had no rights")
            await here.judge(ends("succeed", "waits"))
            assert here.controller.restarts == 0
