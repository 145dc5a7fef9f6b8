"""Which engines are loaded, what they hold, and which of them goes first: the repository's book, without its I/O."""

import asyncio
from collections.abc import Iterable
from typing import Self

from msgspec import Struct

from agenttask.api.model import LocalModel
from agenttask.plugin.engine import Engine, EngineIdentity


class Key(Struct, frozen=True, kw_only=True):
    """Engines of one key are the same engine."""

    model_id: str
    factory: str
    source: str
    dtype: str
    device: str
    quantisation: str
    task: str
    shape: tuple[int, str | int | None, str]
    """Slots, memory and isolation: another wish is another engine."""

    @classmethod
    def of(cls, model_id: str, local: LocalModel, identity: EngineIdentity) -> Self:
        """The key of a model."""
        return cls(
            model_id=model_id,
            factory=local.factory,
            source=identity.source,
            dtype=identity.dtype,
            device=identity.device,
            quantisation=identity.quantisation,
            task=local.task,
            shape=(local.max_batch, local.memory, local.isolation),
        )


class Resident:
    """An engine that is loaded or about to be; `leases` counts who uses it or waits for it."""

    def __init__(self, *, key: Key, device: str, memory_bytes: int) -> None:
        self.key = key
        self.device = device
        self.memory_bytes = memory_bytes
        self.load: asyncio.Task[None] | None = None
        self.engine: Engine | None = None
        self.leases = 0
        self.used = 0.0


def kind_of(device: str) -> str:
    """`cuda` of `cuda:1`."""
    return device.partition(":")[0]


def occupied(residents: Iterable[Resident], device: str) -> int:
    """Bytes that loaded engines hold on the kind of device."""
    return sum(each.memory_bytes for each in residents if each.engine is not None and kind_of(each.device) == kind_of(device))


def victim(residents: Iterable[Resident], device: str) -> Resident | None:
    """Of the loaded engines on the kind of device that nobody uses, the one that was used longest ago."""
    idle = [each for each in residents if each.engine is not None and each.leases == 0 and kind_of(each.device) == kind_of(device)]
    return min(idle, key=lambda each: each.used, default=None)
