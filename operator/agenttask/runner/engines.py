"""Models in this process: each is loaded once, on the device that the strategy chooses, and shared by all steps."""

import asyncio
import contextlib
from collections.abc import Callable

from agenttask.api.model import LocalModel
from agenttask.plugin.engine import Engine, EngineConfig, ModelFactory
from agenttask.runner.settings import RunnerSettings


class Engines:
    """The repository of engines (`EngineSource`)."""

    def __init__(self, factory: Callable[[str], ModelFactory], device: Callable[[], str], settings: RunnerSettings) -> None:
        self._factory = factory
        self._device = device
        self._settings = settings
        self._loads: dict[tuple[str, LocalModel], asyncio.Task[Engine]] = {}

    async def engine(self, model_id: str, local: LocalModel) -> Engine:
        """The engine of a model; callers that come while it loads wait for the same load.

        A caller that is cancelled leaves the load to the others. A load that failed is forgotten: the next call tries anew.
        """
        key = (model_id, local)
        load = self._loads.get(key)
        if load is None:
            load = self._loads[key] = asyncio.create_task(self._load(model_id, local), name=f"load {model_id}")
        try:
            return await asyncio.shield(load)
        except BaseException:
            if load.done() and self._loads.get(key) is load:
                del self._loads[key]
            raise

    async def _load(self, model_id: str, local: LocalModel) -> Engine:
        settings = self._settings
        config = EngineConfig(local=local, threads=settings.torch_threads, memory_bytes=settings.memory_bytes)
        return await self._factory(local.factory).create(model_id, self._device(), config)

    async def aclose(self) -> None:
        """Stop loads, and close the engines that there are."""
        loads, self._loads = list(self._loads.values()), {}
        for load in loads:
            if not load.done():
                load.cancel()
        for load in loads:
            with contextlib.suppress(Exception, asyncio.CancelledError):  # its callers have been told
                await (await load).aclose()
