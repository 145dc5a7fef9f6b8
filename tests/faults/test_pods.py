"""F9, F13: what nodes, schedulers and admission do to pods, and pods that nobody saw end."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.fakes.kubelet import FakePod, said
from tests.faults.arena import Open, Script
from tests.faults.checker import End
from tests.faults.eventually import eventually
from tests.faults.lives import SUCCEEDED
from tests.faults.paths import path
from tests.faults.plan import on
from tests.faults.request_faults import refused

TWICE = End(phase="Succeeded", reason="Succeeded", output="done", pods=2)
SOON = {"backoff": {"initialSeconds": 1}}
_SIZE = {"cpu": "1", "memory": "1Gi"}
PROBE = {
    "metadata": {"name": "probe"},
    "spec": {"containers": [{"name": "one", "image": "one:1", "resources": {"requests": _SIZE, "limits": _SIZE}}]},
}


async def _goes_well(pod: FakePod) -> None:
    await pod.start()
    await pod.end(said(pod.attempt))


def _first(trouble: Callable[[FakePod], Awaitable[None]], *, running: bool = True) -> Script:
    """The first attempt meets trouble, the next goes well."""

    async def script(pod: FakePod) -> None:
        if pod.attempt > 1:
            await _goes_well(pod)
            return
        if running:
            await pod.start()
        await trouble(pod)

    return script


def _killed(code: int, reason: str = "Error") -> Callable[[FakePod], Awaitable[None]]:
    async def trouble(pod: FakePod) -> None:
        await pod.end("", code, reason)

    return trouble


TAKEN: dict[str, tuple[Script, End]] = {
    "evicted": (_first(FakePod.evicted), TWICE),
    "preempted": (_first(FakePod.preempted), TWICE),
    "preempted-early": (_first(FakePod.preempted, running=False), TWICE),
    "rejected": (_first(FakePod.rejected, running=False), TWICE),
    "vanished": (_first(FakePod.vanish), TWICE),
    "oom": (_first(_killed(137, "OOMKilled")), End(phase="Failed", reason="OutOfMemory")),
    "sigkill": (_first(_killed(137)), End(phase="Failed", reason="OutOfMemory")),
    "sigterm": (_first(_killed(143)), TWICE),
    "exit": (_first(_killed(1)), End(phase="Failed", reason="RunnerCrashed")),
}
"""What happens to a pod, and how its task ends: the cluster's doing is tried again, the task's own is its end."""


async def test_each_end_of_a_pod_has_its_reason_and_its_class(run: Open) -> None:
    async with run() as (here, _, _):
        for name, (script, _) in TAKEN.items():
            await here.create(name, script, retry=SOON)
        await here.judge({name: end for name, (_, end) in TAKEN.items()})


async def test_what_a_pod_waits_for_is_told_and_waited_for(run: Open) -> None:
    """F13: no image, no room, no configuration: the reason stands in status, and the task goes on when it is there."""
    troubles = {
        "image": (lambda pod: pod.waiting("ImagePullBackOff", "Back-off pulling image"), "ImagePull"),
        "config": (lambda pod: pod.waiting("CreateContainerConfigError", 'secret "x" not found'), "MissingInput"),
        "room": (FakePod.unschedulable, "Unschedulable"),
    }
    async with run() as (here, _, _):

        def until_told(name: str, trouble: Callable[[FakePod], Awaitable[None]], reason: str) -> Script:
            async def script(pod: FakePod) -> None:
                await trouble(pod)
                await here.recorder.until(lambda: here.recorder.status(name).get("reason") == reason)
                await _goes_well(pod)

            return script

        for name, (trouble, reason) in troubles.items():
            await here.create(name, until_told(name, trouble, reason))
        await here.judge(dict.fromkeys(troubles, SUCCEEDED))


async def test_what_admission_denies(run: Open) -> None:
    """F13: a quota of nothing is waited for and told, a LimitRange that the pod breaks is the end."""
    async with run() as (here, _, _):
        pods = path("pods", here.namespace)
        await here.create("before")
        await here.recorder.until_phase("before", "Succeeded")
        quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
        await here.api.create(path("resourcequotas", here.namespace), quota)
        await eventually(lambda: here.refuses(pods, PROBE, "exceeded quota"), what="the quota")
        await here.create("poor")
        await here.recorder.until(lambda: here.recorder.status("poor").get("reason") == "Unschedulable")
        assert "exceeded quota" in here.recorder.status("poor")["message"]
        await here.api.patch(path("resourcequotas", here.namespace, "none"), {"spec": {"hard": {"pods": "100"}}})
        await here.recorder.until_phase("poor", "Succeeded")
        small = {"metadata": {"name": "small"}, "spec": {"limits": [{"type": "Container", "max": {"memory": "1Mi"}}]}}
        await here.api.create(path("limitranges", here.namespace), small)
        await eventually(lambda: here.refuses(pods, PROBE, "maximum memory usage"), what="the limit")
        await here.create("big")
        await here.judge({"before": SUCCEEDED, "poor": SUCCEEDED, "big": End(phase="Failed", reason="PodRejected", pods=0)})


async def test_pods_that_nobody_saw_end(run: Open) -> None:
    """F9: run and gone while the controller was down: run again by default, and never where the task says at most once."""
    async with run() as (here, _, plan):
        held = asyncio.Event()
        status = on("PATCH", "agenttasks", subresource="status")
        plan.add(lambda one: status(one) and one.name == "unwritten", refused, times=None)  # after two seconds it would stand there

        async def first_is_unseen(pod: FakePod) -> None:
            if held.is_set():
                await _goes_well(pod)
            else:
                await pod.start()

        await here.create("unwritten", first_is_unseen, retry=SOON)
        await here.create("once", first_is_unseen, retry=SOON, execution={"atMostOnce": True})
        await here.recorder.until(lambda: len(here.recorder.pods()) == 2)
        await here.controller.stop()
        plan.clear()
        held.set()
        for pod in list(here.kubelet.pods.values()):
            await pod.end(said(pod.attempt))
            await pod.vanish()
        await here.recorder.until(lambda: not here.recorder.pods())
        await here.controller.start()
        lost = End(phase="Failed", reason="Lost")
        await here.judge({"unwritten": TWICE, "once": lost})
        assert here.recorder.status("unwritten").get("attempt") == 1, "nobody knew of the pod before"


async def test_pods_that_were_on_record_and_are_gone_are_another_attempt(run: Open) -> None:
    """F9: status said Running, so the pod that is gone was attempt 1."""
    async with run() as (here, _, _):
        held = asyncio.Event()

        async def script(pod: FakePod) -> None:
            if held.is_set():
                await _goes_well(pod)
            else:
                await pod.start()

        await here.create("written", script, retry=SOON)
        await here.recorder.until_phase("written", "Running")
        await here.controller.stop()
        held.set()
        for pod in list(here.kubelet.pods.values()):
            await pod.vanish()
        await here.controller.start()
        await here.judge({"written": TWICE})
        assert here.recorder.status("written")["attempt"] == 2


async def test_a_lost_node_is_waited_for_before_another_attempt(run: Open) -> None:
    """F9: a pod whose node does not answer is Terminating for ever: no second pod while it may live."""
    async with run() as (here, _, _):

        async def script(pod: FakePod) -> None:
            pod.lost = True  # from the moment that it is seen to run
            await pod.start()

        await here.create("stranded", script, retry=SOON)
        await here.recorder.until_phase("stranded", "Running")
        pod = next(iter(here.kubelet.pods.values()))
        await here.api.delete(path("pods", here.namespace, pod.name))
        await asyncio.sleep(3.0)
        assert len(here.recorder.ever("stranded")) == 1
        here.scripts["stranded"] = _goes_well
        pod.lost = False
        await pod.stopped()
        await here.judge({"stranded": TWICE})


async def test_a_lost_node_is_given_up_and_what_its_pod_says_later_counts_for_nothing(run: Open) -> None:
    """F9: nodeLostSeconds after the grace the next attempt starts; the first one's late success changes neither status nor result."""
    async with run("nodeLostSeconds=2") as (here, _, _):

        async def script(pod: FakePod) -> None:
            pod.lost = pod.attempt == 1
            await pod.start()

        await here.create("stranded", script, retry=SOON)
        await here.recorder.until_phase("stranded", "Running")
        first = next(iter(here.kubelet.pods.values()))
        here.fenced.add(first.uid)
        await here.api.delete(path("pods", here.namespace, first.name), grace=1)
        runs = lambda: (status := here.recorder.status("stranded")).get("attempt") == 2 and status["phase"] == "Running"  # noqa: E731
        await here.recorder.until(runs, what=lambda: "the second attempt")
        before = here.recorder.status("stranded")
        await first.end(said(first.attempt, "too late"))
        await asyncio.sleep(1.0)
        after = here.recorder.status("stranded")
        await next(pod for pod in here.kubelet.pods.values() if pod.attempt == 2).end(said(2))
        await here.judge({"stranded": TWICE})
        await first.vanish()
        assert (before["endedAttempts"], before["infrastructureRestarts"]) == (1, 1)
        assert (after["endedAttempts"], after.get("output")) == (1, None)
