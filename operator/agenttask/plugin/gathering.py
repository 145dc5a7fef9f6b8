"""Many functions at once, where one that fails takes nothing from the others: its error stands beside their results."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from agenttask.plugin.threading import ThreadingStrategy, WorkKind


class Call(Struct, frozen=True, kw_only=True):
    """One function to run."""

    kind: WorkKind
    function: Callable[..., Any]
    args: tuple[object, ...] = ()


class Failed(Struct, frozen=True, kw_only=True):
    """In place of a result: the exception that the function raised."""

    error: Exception


async def gather(strategy: ThreadingStrategy, calls: Iterable[Call]) -> list[Any]:
    """The results in the order of the calls, a `Failed` for each that raised. Cancelling it cancels all of them."""

    async def one(call: Call) -> Any:
        try:
            return await strategy.run(call.kind, call.function, *call.args)
        except Exception as error:  # noqa: BLE001 - handed to the caller, beside the others' results
            return Failed(error=error)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(call)) for call in calls]
    return [task.result() for task in tasks]
