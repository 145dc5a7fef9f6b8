"""On what terms a task has engines; the repository (engines.py) may be shared by many tasks."""

from collections.abc import Callable

from msgspec import Struct


def silent(_message: str) -> None:
    """Nobody listens."""


class EngineLimits(Struct, frozen=True, kw_only=True):
    """What the run allows to its engines."""

    hub: bool = False
    cpu_fallback: bool = False
    """Whether a model that found no memory on its device may run on the processor."""
    device_processes: int = 1
    """Processes that share the device."""


class EngineTerms(Struct, frozen=True, kw_only=True):
    """On what terms one task has engines: its device, what it allows, and where its lines go."""

    device: Callable[[], str]
    limits: EngineLimits = EngineLimits()
    log: Callable[[str], None] = silent
