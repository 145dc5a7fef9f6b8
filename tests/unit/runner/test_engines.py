"""The repository of engines: one load whoever asks, room by bytes, what is in use stays, what is broken goes."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.runner_plugins import CountingFactory, plugins

from agenttask.api.document import ModelDocument, Policy, TaskDocument, TaskRef
from agenttask.api.errors import AgentTaskError, Interrupted, ModelUnavailable, OutOfMemory, UnknownPlugin
from agenttask.api.model import LocalModel
from agenttask.api.steps import Read, Step
from agenttask.api.task import AgentTaskSpec, Device
from agenttask.plugin.engine import EngineConfig, EngineIdentity
from agenttask.runner.devices import engine_limits
from agenttask.runner.engine_terms import EngineLimits, EngineTerms
from agenttask.runner.engines import Engines
from agenttask.runner.settings import RunnerSettings


class OneEngine:
    """An engine that can be closed."""

    closed = 0

    async def aclose(self) -> None:
        self.closed += 1


class Weighty(OneEngine):
    """One that knows what it holds, and may fail."""

    def __init__(self, device: str, memory_bytes: int) -> None:
        self.device = device
        self.memory_bytes = memory_bytes
        self.failure: AgentTaskError | None = None


class Sizes:
    """A factory of models whose name ends with their size, as `a-30`; `full` are devices that have no room."""

    def __init__(self) -> None:
        self.loads: list[tuple[str, str, int | None]] = []
        self.made: list[Weighty] = []
        self.full: set[str] = set()
        self.device_bytes: int | None = None
        self.gate: asyncio.Event | None = None

    async def identify(self, model_id: str, device: str, config: EngineConfig) -> EngineIdentity:
        size = int(model_id.rpartition("-")[2])
        return EngineIdentity(source=f"/m/{model_id}", device=device, memory_bytes=size, device_bytes=self.device_bytes)

    async def create(self, model_id: str, device: str, config: EngineConfig) -> Weighty:
        self.loads.append((model_id, device, config.memory_bytes))
        if self.gate is not None:
            await self.gate.wait()
        if device in self.full:
            raise OutOfMemory(f"no room on {device}")
        self.made.append(Weighty(device, int(model_id.rpartition("-")[2])))
        return self.made[-1]


class Repository(Engines):
    """Engines with the one task that takes them."""

    def __init__(self, factories: Any, settings: RunnerSettings, terms: EngineTerms, **more: Any) -> None:
        super().__init__(factories, settings, log=terms.log, **more)
        self.task = self.for_task(terms)


def repository(
    factory: object,
    *,
    memory: int | None = 200,
    device: Callable[[], str] = lambda: "cpu",
    limits: EngineLimits = EngineLimits(),  # noqa: B008 - frozen
    log: Callable[[str], None] = lambda _message: None,
    **more: Any,
) -> Repository:
    """With 200 bytes of memory 100 are for engines."""
    found = plugins(factories={"optimized": factory})  # type: ignore[dict-item]
    clock = iter(range(10**6))
    terms = EngineTerms(device=device, limits=limits, log=log)
    settings = RunnerSettings(cpus=4, full_cpus=4, memory_bytes=memory)
    return Repository(found.model_factories.choose, settings, terms, clock=lambda: float(next(clock)), **more)


async def use(engines: Repository, model: str, **local: object) -> object:
    async with engines.task.lease(model, LocalModel(**local)) as engine:  # type: ignore[arg-type]
        return engine


async def test_a_model_is_loaded_once_for_all_who_ask() -> None:
    factory = CountingFactory(OneEngine())  # type: ignore[arg-type]  # the repository only closes it
    engines = repository(factory, memory=1 << 30)
    found = await asyncio.gather(*(use(engines, "smol", package="p") for _ in range(5)))
    await use(engines, "smol", package="other")
    assert len(set(map(id, found))) == 1
    assert [(model, device, config.threads, config.memory_bytes) for model, device, config in factory.loads] == [
        ("smol", "cpu", 3, 640 << 20)
    ] * 2
    assert (engines.stats.hits, engines.stats.misses, engines.stats.resident) == (4, 2, 2)
    await engines.aclose()
    assert factory.engine.closed == 2  # type: ignore[union-attr]


async def test_an_embedding_model_computes_on_the_event_loops_processor_too() -> None:
    factory = CountingFactory(OneEngine())  # type: ignore[arg-type]  # the repository only closes it
    engines = repository(factory)
    await use(engines, "words", package="p", task="Embedding")
    assert [config.threads for _model, _device, config in factory.loads] == [4]
    await engines.aclose()


@pytest.mark.parametrize(("limit", "engines"), [(512, 256), (1024, 640), (2048, 1639), (10240, 8192)])
async def test_the_rest_of_the_container_is_the_runners(limit: int, engines: int) -> None:
    factory = Sizes()
    await use(repository(factory, memory=limit << 20), "a-1")
    left = factory.loads[0][2]
    assert left is not None
    assert -(-left >> 20) == engines


async def test_a_load_that_failed_is_tried_anew() -> None:
    factory = CountingFactory(ModelUnavailable("no weights"))
    engines = repository(factory)
    results = await asyncio.gather(*(use(engines, "smol") for _ in range(2)), return_exceptions=True)
    assert [str(result) for result in results] == ["no weights"] * 2
    with pytest.raises(ModelUnavailable):
        await use(engines, "smol")
    assert len(factory.loads) == 2


async def test_a_caller_that_is_cancelled_leaves_the_load_to_the_others() -> None:
    factory = Sizes()
    factory.gate = asyncio.Event()
    engines = repository(factory)
    first, second = (asyncio.create_task(use(engines, "smol-1")) for _ in range(2))
    while not factory.loads:  # noqa: ASYNC110 - turns of this loop
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    factory.gate.set()
    assert await second is factory.made[0]
    assert (first.cancelled(), len(factory.loads)) == (True, 1)


async def test_closing_ends_a_load_on_its_way_and_refuses_who_comes() -> None:
    engines = repository(CountingFactory(OneEngine(), seconds=60))  # type: ignore[arg-type]
    waiting = asyncio.create_task(use(engines, "smol"))
    await asyncio.sleep(0.01)
    await engines.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(Interrupted):
        await use(engines, "smol")


async def test_an_unknown_factory_is_told() -> None:
    with pytest.raises(UnknownPlugin, match="'fancy'"):
        await use(repository(Sizes()), "smol-1", factory="fancy")


async def test_two_descriptions_of_the_same_weights_share_an_engine() -> None:
    factory = Sizes()
    engines = repository(factory)
    first = await use(engines, "a-10", package="one")
    assert await use(engines, "a-10", path="/the/same") is first
    assert await use(engines, "a-10", path="/the/same", max_batch=2) is not first


async def test_the_one_used_longest_ago_makes_room() -> None:
    factory, lines = Sizes(), []
    engines = repository(factory, log=lines.append)
    for model in ("a-40", "b-40", "a-40", "c-40"):
        await use(engines, model)
    assert [engine.closed for engine in factory.made] == [0, 1, 0]
    assert (engines.stats.evictions, engines.stats.resident_bytes) == (1, 80)
    assert "model 'b-40' is closed to make room: 0 MiB on cpu" in lines
    await engines.aclose()
    assert lines[-1].startswith("model cache: 1 hits, 3 misses, 1 evictions, ")
    assert factory.loads[-1] == ("c-40", "cpu", 60)  # what the other leaves


async def test_one_in_use_is_never_closed_and_the_load_waits_for_it() -> None:
    factory = Sizes()
    engines = repository(factory)
    async with engines.task.lease("a-70", LocalModel()):
        waiting = asyncio.create_task(use(engines, "b-70"))
        await asyncio.sleep(0.02)
        assert (waiting.done(), factory.made[0].closed) == (False, 0)
    assert isinstance(await waiting, Weighty)
    assert factory.made[0].closed == 1


async def test_what_does_not_fit_alone_is_told_before_it_is_loaded() -> None:
    factory = Sizes()
    with pytest.raises(OutOfMemory, match=r"takes at least .* all models together may take .*limits\.memory"):
        await use(repository(factory), "a-101")
    assert factory.loads == []


async def test_without_a_limit_nothing_is_closed() -> None:
    factory = Sizes()
    engines = repository(factory, memory=None)
    for model in ("a-400", "b-400"):
        await use(engines, model)
    assert (engines.stats.evictions, factory.loads[0][2]) == (0, None)


async def test_a_device_of_unknown_size_is_emptied_when_it_is_full() -> None:
    factory = Sizes()
    engines = repository(factory, device=lambda: "cuda")
    await use(engines, "a-40")
    factory.full.add("cuda")
    with pytest.raises(OutOfMemory, match="no room on cuda"):
        await use(engines, "b-40")
    assert (factory.made[0].closed, [model for model, *_ in factory.loads]) == (1, ["a-40", "b-40", "b-40"])


async def test_a_device_has_a_budget_of_its_own() -> None:
    factory = Sizes()
    factory.device_bytes = 50
    engines = repository(factory, device=lambda: "cuda:0")
    for model in ("a-40", "b-40"):
        await use(engines, model)
    assert engines.stats.evictions == 1
    with pytest.raises(OutOfMemory):
        await use(engines, "c-60")


async def test_the_processor_takes_over_only_where_the_task_says_so() -> None:
    factory, lines = Sizes(), []
    factory.full.add("cuda")
    with pytest.raises(OutOfMemory):
        await use(repository(factory, device=lambda: "cuda"), "a-40")
    engines = repository(factory, device=lambda: "cuda", limits=EngineLimits(cpu_fallback=True), log=lines.append)
    await use(engines, "a-40")
    await use(engines, "a-40")
    assert [device for _, device, _ in factory.loads] == ["cuda", "cuda", "cpu"]
    assert "model 'a-40' runs on the processor, as device.classes allows: no room on cuda" in lines


async def test_an_engine_that_failed_is_loaded_anew() -> None:
    factory = Sizes()
    engines = repository(factory)
    first = await use(engines, "a-40")
    assert isinstance(first, Weighty)
    first.failure = ModelUnavailable("its process died")
    assert await use(engines, "a-40") is not first
    assert first.closed == 1


async def test_one_that_ran_out_of_the_devices_memory_goes_to_the_processor() -> None:
    factory = Sizes()
    engines = repository(factory, device=lambda: "cuda", limits=EngineLimits(cpu_fallback=True))
    first = await use(engines, "a-40")
    assert isinstance(first, Weighty)
    first.failure = OutOfMemory("three times")
    second = await use(engines, "a-40")
    assert isinstance(second, Weighty)
    assert (second.device, first.closed) == ("cpu", 1)


def test_a_task_says_what_its_engines_may() -> None:
    def document(*isolation: str, classes: tuple[str, ...] = (), hub: bool = False) -> TaskDocument:
        models = tuple(
            ModelDocument(name=f"m{number}", client="local", model="m", local=LocalModel(path="/m", isolation=each))  # type: ignore[arg-type]
            for number, each in enumerate(isolation)
        )
        spec = AgentTaskSpec(steps=(Step(name="a", read=Read(paths=("x",))),), device=Device(classes=classes))
        return TaskDocument(task=TaskRef(name="t", namespace="n", uid="u"), spec=spec, models=models, policy=Policy(hub=hub))

    assert engine_limits(document()) == EngineLimits()
    assert engine_limits(document("Thread", "Thread")).device_processes == 1
    assert engine_limits(document("Thread", "Process", "Process")).device_processes == 3
    assert engine_limits(document("Process", classes=("gpu", "cpu"), hub=True)) == EngineLimits(hub=True, cpu_fallback=True)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([f"{name}-{size}" for name in "abcd" for size in (10, 30, 60)]), max_size=25))
def test_the_repository_is_a_cache_by_last_use_and_bytes(asked: list[str]) -> None:
    """Against the plainest model there is: a list, the last used at its end."""

    async def run() -> tuple[list[str], int, int]:
        factory = Sizes()
        engines = repository(factory)
        for model in asked:
            await use(engines, model)
        assert engines.stats.resident_bytes == sum(engine.memory_bytes for engine in factory.made if not engine.closed) <= 100
        loads, stats = [model for model, *_ in factory.loads], engines.stats
        await engines.aclose()
        assert all(engine.closed == 1 for engine in factory.made)
        return loads, stats.hits, stats.evictions

    def size(model: str) -> int:
        return int(model.partition("-")[2])

    kept: list[str] = []
    loads, evictions = [], 0
    for model in asked:
        if model in kept:
            kept.remove(model)
        else:
            loads.append(model)
            while sum(map(size, kept)) + size(model) > 100:
                kept.pop(0)
                evictions += 1
        kept.append(model)
    assert asyncio.run(run()) == (loads, len(asked) - len(loads), evictions)


async def test_tasks_share_what_is_loaded_and_keep_their_own_terms() -> None:
    factory = Sizes()
    factory.full.add("cuda")
    engines = repository(factory, memory=1 << 30)
    said: list[str] = []
    strict = engines.for_task(EngineTerms(device=lambda: "cuda"))
    lenient = engines.for_task(EngineTerms(device=lambda: "cuda", limits=EngineLimits(cpu_fallback=True), log=said.append))
    async with lenient.lease("a-1", LocalModel()) as first, engines.task.lease("a-1", LocalModel()) as second:
        assert first is second  # the processor's, for both
    with pytest.raises(OutOfMemory):
        await strict.lease("a-1", LocalModel()).__aenter__()
    assert "runs on the processor" in said[0]
    await engines.aclose()
