"""A checkpoint store that remembers its saves, and can be slow or broken."""

import asyncio

from agenttask.runner.checkpoint_store import CheckpointUnavailable, MemoryStore


class WatchedStore(MemoryStore):
    """Remembers every save; `broken` is what the next calls fail with, `gate` holds a save back."""

    def __init__(self, content: bytes | None = None) -> None:
        super().__init__(content)
        self.saved: list[bytes] = []
        self.broken: str | None = None
        self.gate: asyncio.Event | None = None
        self.busy = 0

    async def load(self) -> bytes | None:
        if self.broken is not None:
            raise CheckpointUnavailable(self.broken)
        return await super().load()

    async def save(self, raw: bytes) -> None:
        self.busy += 1
        assert self.busy == 1, "two saves at once"
        try:
            if self.gate is not None:
                await self.gate.wait()
            if self.broken is not None:
                raise CheckpointUnavailable(self.broken)
            await super().save(raw)
            self.saved.append(raw)
        finally:
            self.busy -= 1
