"""Before the first decision: every task that is known takes its place, so that nothing is given twice or out of turn.

Pods whose task is gone hold the turn that it had until they are gone too.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from agenttask.controller.dispatcher import Dispatcher
from agenttask.controller.pod_cache import PodCache
from agenttask.controller.task_cache import TaskCache
from agenttask.controller.turns import Turns

_AT_ONCE: Final = 50
"""Tasks that are looked at before the loop gets its turn: some milliseconds."""


class Starter:
    """Lines the tasks up; `clock` in Unix seconds."""

    def __init__(self, *, tasks: TaskCache, pods: PodCache, turns: Turns, dispatcher: Dispatcher, clock: Callable[[], float]) -> None:
        self._tasks, self._pods, self._turns, self._dispatcher, self._clock = tasks, pods, turns, dispatcher, clock

    async def start(self) -> None:
        """Once, when tasks, pods, queues, models and nodes are listed."""
        for number, uid in enumerate(self._tasks):
            task = self._tasks.get(uid)
            if task is not None:
                self._turns.line_up(task, self._clock())
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
        for number, uid in enumerate(self._pods.owners()):
            if self._tasks.get(uid) is None:
                self._turns.forget(uid)
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
        self._dispatcher.open()
