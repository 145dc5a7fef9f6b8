"""Models in this process: each is loaded once, on the device that the strategy chooses, shared, and closed when room is needed.

Two AgentModels that mean the same weights in the same format on the same device share one engine. What the engines hold is
bounded by bytes, a share of the container's memory or of the device's: the one that was used longest ago goes first, and one
in use never; a load waits for it instead.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from msgspec import Struct

from agenttask.api.errors import AgentTaskError, Interrupted, OutOfMemory
from agenttask.api.model import LocalModel
from agenttask.plugin.engine import (
    Engine,
    EngineConfig,
    EngineIdentity,
    IdentifiesModels,
    MayFail,
    ModelFactory,
    ModelFactoryMaker,
    OccupiesMemory,
)
from agenttask.runner.engine_terms import EngineTerms, silent
from agenttask.runner.residents import Key, Resident, kind_of, occupied, victim
from agenttask.runner.settings import RunnerSettings

CPU = "cpu"
_RESERVE_BYTES = 384 << 20
"""Of the container's memory, for the runner with torch, measured, and for commands: a fifth, at least this, at most half."""


class EngineStats(Struct, frozen=True, kw_only=True):
    """What the repository did so far."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    load_seconds: float = 0.0
    resident: int = 0
    resident_bytes: int = 0


class Engines:
    """The repository of engines; each task takes them through an `EngineSource` of its own (`for_task`)."""

    def __init__(
        self,
        factories: Callable[[str], ModelFactoryMaker],
        settings: RunnerSettings,
        *,
        log: Callable[[str], None] = silent,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._factories = factories
        self._settings = settings
        self._log = log
        self._clock = clock
        self._residents: dict[Key, Resident] = {}
        self._devices: dict[tuple[str, LocalModel], str] = {}
        """Models that run on the processor because their device had no room."""
        self._identities: dict[tuple[str, LocalModel, str], EngineIdentity] = {}
        self._room = asyncio.Lock()
        self._changed = asyncio.Event()
        self._hits = self._misses = self._evictions = 0
        self._load_seconds = 0.0
        self._closed = False

    @property
    def stats(self) -> EngineStats:
        """For metrics and the log."""
        held = [resident for resident in self._residents.values() if resident.engine is not None]
        return EngineStats(
            hits=self._hits,
            misses=self._misses,
            evictions=self._evictions,
            load_seconds=self._load_seconds,
            resident=len(held),
            resident_bytes=sum(resident.memory_bytes for resident in held),
        )

    def for_task(self, terms: EngineTerms) -> "TaskEngines":
        """The engines as one task has them; closing them is the repository's owner's."""
        return TaskEngines(self, terms)

    @contextlib.asynccontextmanager
    async def lease(self, model_id: str, local: LocalModel, terms: EngineTerms) -> AsyncIterator[Engine]:
        """The engine of a model; callers that come while it loads wait for the same load.

        A caller that is cancelled leaves the load to the others. A load that failed is forgotten: the next call tries anew.
        """
        resident = await self._loaded(model_id, local, terms)
        assert resident.engine is not None
        try:
            yield resident.engine
        finally:
            self._release(resident)

    async def _loaded(self, model_id: str, local: LocalModel, terms: EngineTerms) -> Resident:
        """A resident with one lease more, on the device, or on the processor where that is allowed and the device is full."""
        known = self._devices.get((model_id, local)) if terms.limits.cpu_fallback else None
        device = known or terms.device()
        try:
            return await self._on(model_id, local, device, terms)
        except OutOfMemory as error:
            if kind_of(device) == CPU or not terms.limits.cpu_fallback:
                raise
            terms.log(f"model {model_id!r} runs on the processor, as device.classes allows: {error}")
            self._devices[model_id, local] = CPU
            return await self._on(model_id, local, CPU, terms)

    async def _on(self, model_id: str, local: LocalModel, device: str, terms: EngineTerms) -> Resident:
        factory = self._factories(local.factory)()
        identity = await self._identity(factory, model_id, local, device, terms)
        if self._closed:
            raise Interrupted(f"model {model_id!r} is not loaded: the run is ending")
        key = Key.of(model_id, local, identity)
        resident = self._residents.get(key)
        if resident is not None and (failure := _failure(resident)) is not None:
            await self._discard(resident)
            resident = self._residents.get(key)  # another caller may have been faster
            if isinstance(failure, OutOfMemory) and kind_of(identity.device) != CPU:
                raise failure
        if resident is None:
            self._misses += 1
            resident = self._residents[key] = Resident(key=key, device=identity.device, memory_bytes=identity.memory_bytes)
            resident.load = asyncio.create_task(self._load(factory, resident, local, identity, terms), name=f"load {model_id}")
            resident.load.add_done_callback(lambda load: self._settled(load, resident))
        else:
            self._hits += 1
        resident.leases += 1
        resident.used = self._clock()
        assert resident.load is not None
        try:
            await asyncio.shield(resident.load)
        except BaseException:
            self._release(resident)
            raise
        return resident

    def _settled(self, load: "asyncio.Task[None]", resident: Resident) -> None:
        """Forget a load that failed; looking at the error marks it as seen, where all who waited have left."""
        if (load.cancelled() or load.exception() is not None) and self._residents.get(resident.key) is resident:
            del self._residents[resident.key]

    async def _identity(self, factory: ModelFactory, model_id: str, local: LocalModel, device: str, terms: EngineTerms) -> EngineIdentity:
        """Asked once a model: it reads files."""
        asked = (model_id, local, device)
        if asked not in self._identities:
            identity = EngineIdentity(source=repr(local), device=device)
            if isinstance(factory, IdentifiesModels):
                identity = await factory.identify(model_id, device, self._config(local, self._budget(identity), terms))
            self._identities[asked] = identity
        return self._identities[asked]

    async def _load(
        self, factory: ModelFactory, resident: Resident, local: LocalModel, identity: EngineIdentity, terms: EngineTerms
    ) -> None:
        async with self._room:
            left = await self._make_room(resident, identity)
            started = self._clock()
            config = self._config(local, left, terms)
            try:
                engine = await factory.create(resident.key.model_id, identity.device, config)
            except OutOfMemory:
                if not await self._evict_idle(resident):
                    raise
                engine = await factory.create(resident.key.model_id, identity.device, config)
            if isinstance(engine, OccupiesMemory):
                resident.device, resident.memory_bytes = engine.device, engine.memory_bytes
            resident.engine = engine
            seconds = self._clock() - started
            self._load_seconds += seconds
            terms.log(
                f"model {resident.key.model_id!r} is loaded on {resident.device} after {seconds:.1f} s, {_mib(resident.memory_bytes)}"
            )

    async def _make_room(self, resident: Resident, identity: EngineIdentity) -> int | None:
        """Close what is not in use until the model fits; what it may take, None where nothing bounds it."""
        budget, needed = self._budget(identity), resident.memory_bytes
        if budget is None:
            return None
        if needed > budget:
            raise OutOfMemory(
                f"model {resident.key.model_id!r} takes at least {_mib(needed)}, all models together may take {_mib(budget)}; raise "
                "`pod.resources.limits.memory`, set local.dtype to BFloat16, or lower local.memory"
            )
        others = [each for each in self._residents.values() if each is not resident]
        while occupied(others, resident.device) + needed > budget:
            if (oldest := victim(others, resident.device)) is not None:
                await self._evict(oldest)
            else:
                self._changed.clear()
                await self._changed.wait()
            others = [each for each in self._residents.values() if each is not resident]
        return budget - occupied(others, resident.device)

    def _budget(self, identity: EngineIdentity) -> int | None:
        """Bytes for all engines on the kind of device."""
        if kind_of(identity.device) != CPU:
            return identity.device_bytes
        limit = self._settings.memory_bytes
        return None if limit is None else limit - min(max(limit // 5, _RESERVE_BYTES), limit // 2)

    def _config(self, local: LocalModel, memory_bytes: int | None, terms: EngineTerms) -> EngineConfig:
        return EngineConfig(
            local=local,
            threads=self._settings.embedding_threads if local.task == "Embedding" else self._settings.torch_threads,
            memory_bytes=memory_bytes,
            gpu_memory_fraction=self._settings.gpu_memory_fraction,
            device_processes=terms.limits.device_processes,
            hub=terms.limits.hub,
            log=terms.log,
        )

    async def _evict_idle(self, resident: Resident) -> bool:
        """Close all that is not in use on a device whose size is not known before; whether there was any."""
        found = False
        while (oldest := victim([each for each in self._residents.values() if each is not resident], resident.device)) is not None:
            await self._evict(oldest)
            found = True
        return found

    async def _evict(self, resident: Resident) -> None:
        self._evictions += 1
        self._log(f"model {resident.key.model_id!r} is closed to make room: {_mib(resident.memory_bytes)} on {resident.device}")
        await self._discard(resident)

    async def _discard(self, resident: Resident) -> None:
        """Forget it, then close it: who asks meanwhile loads it anew."""
        if self._residents.get(resident.key) is resident:
            del self._residents[resident.key]
        engine, resident.engine = resident.engine, None
        if engine is not None:
            await engine.aclose()

    def _release(self, resident: Resident) -> None:
        resident.leases -= 1
        resident.used = self._clock()
        self._changed.set()

    async def aclose(self) -> None:
        """Stop loads, close the engines that there are, and say how the repository did."""
        self._closed = True
        residents, self._residents = list(self._residents.values()), {}
        for resident in residents:
            if resident.load is not None and not resident.load.done():
                resident.load.cancel()
        try:
            if loads := [resident.load for resident in residents if resident.load is not None]:
                await asyncio.wait(loads)  # their callers have been told how they ended
        finally:  # whoever is cancelled while it waits leaves no engine behind
            for resident in residents:
                with contextlib.suppress(Exception):
                    await self._discard(resident)
        if self._misses:
            stats = self.stats
            self._log(
                f"model cache: {stats.hits} hits, {stats.misses} misses, {stats.evictions} evictions, {stats.load_seconds:.1f} s of loading"
            )


class TaskEngines:
    """The `EngineSource` of one task."""

    def __init__(self, engines: Engines, terms: EngineTerms) -> None:
        self._engines = engines
        self._terms = terms

    def lease(self, model_id: str, local: LocalModel) -> AbstractAsyncContextManager[Engine]:
        """The engine of a model, on the task's terms."""
        return self._engines.lease(model_id, local, self._terms)


def _failure(resident: Resident) -> AgentTaskError | None:
    engine: object = resident.engine
    return engine.failure if isinstance(engine, MayFail) else None


def _mib(amount: int) -> str:
    return f"{amount >> 20} MiB"
