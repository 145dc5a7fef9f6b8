"""The lives of tasks that faults are tried on, and how each ends: the one table to change when the controller's rules change.

A life is driven by what status shows, never by time, so that every run asks the API server for the same writes.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from tests.fakes.kubelet import FakePod, said, said_failed
from tests.faults.arena import Arena, Script
from tests.faults.checker import End

Act = Callable[[Arena, str], Awaitable[None]]
"""What the user and the cluster do after the task is there."""
Play = Callable[[Arena], Script]
SUCCEEDED: Final = End(phase="Succeeded", reason="Succeeded", output="done")


class Life(Struct, frozen=True, kw_only=True):
    """A task, what its pods do, what happens around it, and its end."""

    end: End
    patches: int = 1
    """How often its status is written in a run without faults."""
    spec: Mapping[str, Any] = {}
    """Where it says `NAME`, the task's name is put in."""
    pods: Play | None = None
    act: Act | None = None


# ---- what pods do


def _fails(_: Arena) -> Script:
    async def script(pod: FakePod) -> None:
        await pod.start()
        await pod.end(said_failed(pod.attempt), 1)

    return script


def _runs_until_seen(here: Arena) -> Script:
    """Runs until status says Running."""

    async def script(pod: FakePod) -> None:
        await pod.start()
        await here.recorder.until_phase(pod.task, "Running")
        await pod.end(said(pod.attempt))

    return script


def _first(trouble: Callable[[FakePod], Awaitable[None]]) -> Play:
    """The first attempt runs into something, the next goes well."""

    def play(_: Arena) -> Script:
        async def script(pod: FakePod) -> None:
            await pod.start()
            if pod.attempt == 1:
                await trouble(pod)
            else:
                await pod.end(said(pod.attempt))

        return script

    return play


async def _step_fails(pod: FakePod) -> None:
    await pod.end(said_failed(pod.attempt), 1)


def _runs_for_ever(_: Arena) -> Script:
    async def script(pod: FakePod) -> None:
        await pod.start()

    return script


def _waits(reason: str, message: str) -> Play:
    def play(_: Arena) -> Script:
        async def script(pod: FakePod) -> None:
            await pod.waiting(reason, message)

        return script

    return play


# ---- what users do


async def _model_arrives(here: Arena, name: str) -> None:
    await here.recorder.until(lambda: here.recorder.status(name).get("reason") == "UnknownModel")
    await here.create_model(f"model-of-{name}")


async def _is_deleted_while_it_runs(here: Arena, name: str) -> None:
    await here.recorder.until_phase(name, "Running")
    await here.delete(name)


_ASKS: Final = [{"name": "say", "chat": {"model": "model-of-NAME", "prompt": "hi"}}]
_SOON: Final = {"backoff": {"initialSeconds": 1}}
_TWICE: Final = End(phase="Succeeded", reason="Succeeded", output="done", pods=2)

LIVES: Final[dict[str, Life]] = {
    "succeed": Life(end=SUCCEEDED),
    "fail": Life(end=End(phase="Failed", reason="StepFailed"), pods=_fails),
    "long": Life(end=SUCCEEDED, patches=2, pods=_runs_until_seen),
    "waits": Life(end=SUCCEEDED, patches=2, spec={"steps": _ASKS}, act=_model_arrives),
    "unknown": Life(end=End(phase="Failed", reason="UnknownPlugin", pods=0), spec={"device": {"strategy": "none-such"}}),
    "late": Life(end=End(phase="Failed", reason="DeadlineExceeded"), patches=2, spec={"activeDeadlineSeconds": 1}, pods=_runs_for_ever),
    "image": Life(end=End(phase="Failed", reason="ImageError", unseen=4), pods=_waits("InvalidImageName", "couldn't parse image name")),
    "evicted": Life(end=_TWICE, patches=2, spec={"retry": _SOON}, pods=_first(FakePod.evicted)),
    "again": Life(end=_TWICE, patches=2, spec={"retry": _SOON | {"limit": 1}}, pods=_first(_step_fails)),
    "deleted": Life(end=End(gone=True), pods=_runs_for_ever, act=_is_deleted_while_it_runs),
}


def ends(*names: str, suffix: str = "") -> dict[str, End]:
    """The table's last column, for some lives or all."""
    return {name + suffix: LIVES[name].end for name in names or LIVES}


async def live(here: Arena, *names: str, suffix: str = "") -> None:
    """Let some lives (all) happen side by side, up to what the user does; their ends are `settled`'s to wait for."""
    async with asyncio.TaskGroup() as group:
        for name in names or LIVES:
            group.create_task(_live(here, name + suffix, LIVES[name]))


async def _live(here: Arena, name: str, life: Life) -> None:
    spec = json.loads(json.dumps(life.spec).replace("NAME", name))
    await here.create(name, life.pods(here) if life.pods is not None else None, **spec)
    if life.act is not None:
        await life.act(here, name)
