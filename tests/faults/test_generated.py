"""F16: objects as the schema allows them and nobody writes them, on a real API server."""

import asyncio
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from hypothesis import settings

from tests.faults.api import Refused
from tests.faults.arena import Arena, Open
from tests.faults.eventually import eventually
from tests.faults.paths import path
from tests.faults.soak import SOAK
from tests.unit.controller.test_generated_tasks import CLASSES, NAMES, drawn, ours, stands
from tests.unit.crds.schema_objects import body

OBJECTS = 400 if SOAK else 40
WRITES_EACH = 8
MOST_MEGABYTES = 200


def megabytes(here: Arena) -> float:
    """What the controller has in memory."""
    lines = Path(f"/proc/{here.controller.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def drawn_apart(count: int) -> list[tuple[str, dict[str, Any]]]:
    """For a process of its own: Hypothesis fails where another thread, of a test beside this one, takes a random number meanwhile."""
    settings.register_profile("apart", deadline=None)
    settings.load_profile("apart")
    return drawn(count)


async def test_generated_objects_end_or_wait_for_a_reason(run: Open) -> None:
    """Whatever the API server takes, under the longest names: no task without a phase and a reason, no storm of writes, no crash."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
        objects = await asyncio.get_running_loop().run_in_executor(apart, drawn_apart, OBJECTS)
    async with run(CLASSES) as (here, proxy, _):
        taken = []
        for number, (plural, spec) in enumerate(objects):
            name = NAMES[number] if number < len(NAMES) else f"g{number}"
            try:
                await here.api.create(path(plural, here.namespace), body(plural, ours(spec), name))
            except Refused as refused:
                if refused.status != 422:
                    raise
            else:
                taken += [name] if plural == "agenttasks" else []

        def wrong() -> dict[str, str]:
            tasks = {name: here.recorder.task(name) for name in taken}
            return {name: why for name, one in tasks.items() if (why := stands(one or {})) is not None}

        async def still() -> bool:
            before = sum(one.mutating for one in proxy.seen)
            await asyncio.sleep(7.0)  # a queue's status follows within six
            return sum(one.mutating for one in proxy.seen) == before

        await here.recorder.until(lambda: not wrong(), what=wrong)
        await eventually(still, what="the end of all writes")
        history = await here.judge({})
        assert len(taken) > OBJECTS // 4
        assert wrong() == {}
        assert len([one for one in history.ours if one.verb not in ("get", "list", "watch")]) <= WRITES_EACH * len(objects)
        assert here.controller.restarts == 0
        assert megabytes(here) < MOST_MEGABYTES
