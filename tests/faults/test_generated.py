"""F16: objects as the schema allows them and nobody writes them, on a real API server."""

import asyncio

from tests.faults.api import Refused
from tests.faults.arena import Open
from tests.faults.paths import path
from tests.faults.soak import SOAK
from tests.unit.controller.test_generated_tasks import CLASSES, drawn, ours, stands
from tests.unit.crds.schema_objects import body

OBJECTS = 400 if SOAK else 40
WRITES_EACH = 8


async def test_generated_objects_end_or_wait_for_a_reason(run: Open) -> None:
    """Whatever the API server takes: no task without a phase and a reason, no storm of writes, and the controller lives on."""
    objects = await asyncio.to_thread(drawn, OBJECTS)
    async with run(CLASSES) as (here, _, _):
        taken = []
        for number, (plural, spec) in enumerate(objects):
            try:
                await here.api.create(path(plural, here.namespace), body(plural, ours(spec), f"g{number}"))
            except Refused as refused:
                if refused.status != 422:
                    raise
            else:
                taken += [f"g{number}"] if plural == "agenttasks" else []

        def wrong() -> dict[str, str]:
            tasks = {name: here.recorder.task(name) for name in taken}
            return {name: why for name, one in tasks.items() if (why := stands(one or {})) is not None}

        await here.recorder.until(lambda: not wrong(), 60, what=wrong)
        await asyncio.sleep(7.0)  # a queue's status follows within six
        history = await here.judge({})
        assert len(taken) > OBJECTS // 2
        assert wrong() == {}
        assert len([one for one in history.ours if one.verb not in ("get", "list", "watch")]) <= WRITES_EACH * len(objects)
        assert here.controller.restarts == 0
