"""Model factories and engines: weights in this process, one engine for a model, never a pool of copies.

Measured: one batching engine gives twice the throughput of a process pool at a third of the CPU a token.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

from msgspec import Struct

from agenttask.api.errors import AgentTaskError
from agenttask.api.model import LocalModel
from agenttask.plugin.llm import Chunk, Embeddings, Message


def _nobody(_message: str) -> None:
    """Where nobody listens."""


class EngineConfig(Struct, frozen=True, kw_only=True):
    """How an engine is made, from the container's own limits, never from the node's."""

    local: LocalModel
    threads: int = 1
    """For the tensor library on CPU."""
    memory_bytes: int | None = None
    """Of the container's memory, what the engine may take, weights included; None: there is no limit."""
    gpu_memory_fraction: float = 0.8
    """Of a GPU's memory, what all engines of this pod together may take (`GPU_MEMORY_FRACTION`)."""
    device_processes: int = 1
    """Processes of this pod that share the GPU; each gets its part of the fraction."""
    hub: bool = False
    """Whether weights may be downloaded from a hub."""
    log: Callable[[str], None] = _nobody
    """A line for the log; called on the loop or in a thread."""


class Sampling(Struct, frozen=True, kw_only=True):
    """How the next token is chosen: greedily without a temperature; `stop` texts end the answer and are not part of it."""

    max_tokens: int = 512
    temperature: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


class Engine(Protocol):
    """A loaded model. A text model refuses `embed`, an embedding model refuses `generate`, both with ModelRejected."""

    def generate(self, messages: Sequence[Message], sampling: Sampling) -> AsyncIterator[Chunk]:
        """The answer piece by piece; the last chunk has usage and finish reason. Closing the iterator cancels."""
        ...

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """One unit vector a text."""
        ...

    async def aclose(self) -> None:
        """Free threads and memory."""
        ...


class ModelFactory(Protocol):
    """Makes engines."""

    async def create(self, model_id: str, device: str, config: EngineConfig) -> Engine:
        """Load a model on a device: `cpu`, `cuda` (the factory picks one), `cuda:1`, or `auto` (CUDA if it works, else CPU).

        Raises:
            ModelUnavailable: the weights are not there.
            DeviceUnavailable: the device is not there.
            ModelRejected: the weights are not of the kind asked for.
            OutOfMemory: they do not fit.
        """
        ...


class EngineIdentity(Struct, frozen=True, kw_only=True):
    """What makes two engines the same one, read from the files without loading them; `memory_bytes` is what it will take at least."""

    source: str
    """Where the weights are, with the revision or a digest of them."""
    dtype: str = ""
    device: str = "cpu"
    quantisation: str = "none"
    memory_bytes: int = 0
    device_bytes: int | None = None
    """What the engines of this process may take of the device's memory; None: unknown, or the container's own."""


@runtime_checkable
class IdentifiesModels(Protocol):
    """An ability of factories: with it a repository shares engines, and makes room before it loads."""

    async def identify(self, model_id: str, device: str, config: EngineConfig) -> EngineIdentity:
        """What `create` would make; its errors are those of `create`."""
        ...


@runtime_checkable
class OccupiesMemory(Protocol):
    """An ability of engines: what they hold."""

    @property
    def device(self) -> str:
        """Where, as `cpu` or `cuda:0`."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Weights and caches."""
        ...


@runtime_checkable
class MayFail(Protocol):
    """An ability of engines: to say that they are of no more use and should be loaded anew."""

    @property
    def failure(self) -> AgentTaskError | None:
        """What was the end of it."""
        ...


class EngineSource(Protocol):
    """The runner's repository of engines: loads once, shares, and closes what is not in use when memory is short, and all at the end."""

    def lease(self, model_id: str, local: LocalModel) -> AbstractAsyncContextManager[Engine]:
        """The engine of a model, loaded at the first call; it stays loaded until the block is left."""
        ...


ModelFactoryMaker = Callable[[], ModelFactory]
