"""What the schema and the rules of AgentTask cost the API server a write, against the same bodies in a bare CRD, in one run."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from bench.control import objects, procfs
from bench.control.arithmetic import in_turn
from bench.control.connection import MERGE_PATCH, Api
from bench.control.race import Sample, served, set_stage
from bench.control.stage import Storage
from msgspec import Struct

from agenttask.api.constants import API_VERSION, GROUP, VERSION

BARE_GROUP: Final = "bare.bench.invalid"
WRITERS: Final = 8


class Cost(Struct, kw_only=True):
    """CPU milliseconds of the API server a write, of one kind of resource in one round."""

    schema: str
    round: int
    create: float
    status: float

    @property
    def both(self) -> float:
        """A task has one of each."""
        return self.create + self.status


async def costs(sample: Sample, *, count: int, rounds: int, storage: Storage) -> list[Cost]:
    """Each schema in each round, the order turning."""
    groups = {"ours": GROUP, "bare": BARE_GROUP}
    found: list[Cost] = []
    async with set_stage(run_seconds=0, storage=storage) as (stage, api):
        await api.send("POST", objects.CRDS, objects.bare_crd(BARE_GROUP))
        for group in groups.values():
            await served(api, _path(group))
        pid = stage.pids()["kube-apiserver"]
        for schema in groups:
            await _write(api, pid, groups[schema], sample, f"warm-{schema}", 100)
        for number in range(rounds):
            for schema in in_turn(list(groups), number):
                create, status = await _write(api, pid, groups[schema], sample, f"{schema}-{number}", count)
                found.append(Cost(schema=schema, round=number, create=create, status=status))
    return found


async def _write(api: Api, pid: int, group: str, sample: Sample, prefix: str, count: int) -> tuple[float, float]:
    """Create so many and write the last status of each; CPU milliseconds a write of either."""
    body = objects.task().replace(API_VERSION.encode(), f"{group}/{VERSION}".encode())
    versions: dict[str, str] = {}

    async def create(name: str) -> None:
        answer = json.loads(await api.send("POST", _path(group), objects.named(body, name)))
        versions[name] = answer["metadata"]["resourceVersion"]

    async def end(name: str) -> None:
        patch: dict[str, Any] = {"metadata": {"resourceVersion": versions[name]}, "status": sample.task["status"]}
        await api.send("PATCH", f"{_path(group)}/{name}/status", json.dumps(patch).encode(), MERGE_PATCH)

    names = [f"{prefix}-{number:06d}" for number in range(count)]
    return await _cost(pid, create, names), await _cost(pid, end, names)


async def _cost(pid: int, write: Callable[[str], Awaitable[None]], names: list[str]) -> float:
    waiting: Iterable[str] = iter(names)

    async def some() -> None:
        for name in waiting:
            await write(name)

    before = procfs.usage(pid).cpu
    await asyncio.gather(*(some() for _ in range(WRITERS)))
    return 1000 * (procfs.usage(pid).cpu - before) / len(names)


def _path(group: str) -> str:
    return objects.TASKS.replace(f"/{GROUP}/", f"/{group}/")
