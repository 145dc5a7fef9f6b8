"""Plugins for runner tests: step kinds that echo, sleep and fail, a model that answers, threads that are asyncio's.

They come through the real catalogue, so that selection and its errors are the real ones.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import pluggy
from msgspec import Struct

from agenttask.api.document import ModelDocument
from agenttask.plugin import hookspecs
from agenttask.plugin.device import Choice, DeviceRequest, Stock
from agenttask.plugin.engine import Engine, EngineConfig
from agenttask.plugin.hookspecs import hookimpl
from agenttask.plugin.llm import ChatRequest, Chunk, ClientContext, Completion, Embeddings, LLMClient, Message, Usage
from agenttask.plugin.registry import Plugins
from agenttask.plugin.step import StepContext, StepKind, StepOutput
from agenttask.plugin.threading import WorkKind


class Threads:
    """Every function on asyncio's own threads."""

    def __init__(self, limits: Any = None) -> None:
        self.limits = limits
        self.drained: list[float] = []

    async def run(self, kind: WorkKind, function: Callable[..., Any], *args: object) -> Any:
        return await asyncio.to_thread(function, *args)

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109
        self.drained.append(timeout)


class EchoConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    text: str = ""
    seconds: float = 0
    model: str | None = None
    fail: str | None = None


class Echo:
    """Waits `seconds`, asks `model` if there is one, and says `text`."""

    schema = EchoConfig

    async def run(self, config: EchoConfig, context: StepContext) -> StepOutput:
        await asyncio.sleep(config.seconds)
        if config.fail is not None:
            raise RuntimeError(config.fail)
        if config.model is None:
            return StepOutput(text=config.text)
        completion = await context.model(config.model).chat(ChatRequest(messages=(Message(role="user", content=config.text),)))
        return StepOutput(text=completion.text)


class FunctionKind:
    """A step kind from one coroutine function."""

    schema: type[Any] = dict[str, Any]

    def __init__(self, function: Callable[[dict[str, Any], StepContext], Any]) -> None:
        self._function = function

    async def run(self, config: dict[str, Any], context: StepContext) -> StepOutput:
        output: StepOutput = await self._function(config, context)
        return output


class Answering:
    """A model that answers with its credential's length and what it was asked."""

    def __init__(self, model: ModelDocument, context: ClientContext) -> None:
        self.model = model
        self.context = context
        self.closed = False

    async def chat(self, request: ChatRequest) -> Completion:
        text = f"{self.model.model}: {request.messages[-1].content}"
        return Completion(text=text, usage=Usage(calls=1, input_tokens=3, output_tokens=4), model="answering-1")

    async def stream(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        yield Chunk(text="one ")
        yield Chunk(text="two", usage=Usage(calls=1, input_tokens=5, output_tokens=6), finish_reason="stop", model="answering-1")

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        return Embeddings(vectors=tuple([1.0, 0.0] for _ in texts), usage=Usage(input_tokens=len(texts)))

    async def aclose(self) -> None:
        self.closed = True


class FirstClass:
    """A device strategy: the first wished class that is free."""

    def rank(self, request: DeviceRequest, inventory: Sequence[Stock]) -> Sequence[Choice]:
        stocks = {stock.class_.name: stock for stock in inventory}
        return [Choice(class_=name, usable=stocks[name].free != 0, verdict=f"{stocks[name].free} free") for name in request.classes]


class CountingFactory:
    """A model factory that counts its loads; `engine` is what it makes, or the exception that it raises."""

    def __init__(self, engine: Engine | Exception, seconds: float = 0.01) -> None:
        self.engine = engine
        self.seconds = seconds
        self.loads: list[tuple[str, str, EngineConfig]] = []

    async def create(self, model_id: str, device: str, config: EngineConfig) -> Engine:
        self.loads.append((model_id, device, config))
        await asyncio.sleep(self.seconds)
        if isinstance(self.engine, Exception):
            raise self.engine
        return self.engine


def plugins(
    *,
    kinds: Mapping[str, StepKind] | None = None,
    clients: Mapping[str, Callable[[ModelDocument, ClientContext], LLMClient]] | None = None,
    threads: Callable[[Any], Threads] = Threads,
    factories: Mapping[str, CountingFactory] | None = None,
) -> Plugins:
    """A loaded set: step kind `echo` and what is given, client `answering`, threading `async`, device strategy `auto`."""

    class Fakes:
        @hookimpl
        def agenttask_step_kinds(self) -> dict[str, Any]:
            made = {"echo": Echo(), **(kinds or {})}
            return {name: (lambda kind=kind: kind) for name, kind in made.items()}

        @hookimpl
        def agenttask_llm_clients(self) -> dict[str, Any]:
            return {"answering": Answering, **(clients or {})}

        @hookimpl
        def agenttask_threading_strategies(self) -> dict[str, Any]:
            return {"async": threads}

        @hookimpl
        def agenttask_device_strategies(self) -> dict[str, Any]:
            return {"auto": FirstClass}

        @hookimpl
        def agenttask_model_factories(self) -> dict[str, Any]:
            return {name: (lambda factory=factory: factory) for name, factory in (factories or {}).items()}

    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(Fakes(), name="fakes")
    manager.check_pending()
    return Plugins(manager)
