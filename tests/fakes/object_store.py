"""An object store in memory, which can be away, refuse, or take its time."""

import asyncio


class MemoryObjects:
    """`Objects` of a run; `problem` is raised by each `put` while it is set, `held` until it may go on."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.problem: Exception | None = None
        self.held: asyncio.Event | None = None
        self.asked = asyncio.Event()

    async def put(self, key: str, content: bytes) -> None:
        """Keep it."""
        self.asked.set()
        if self.held is not None:
            await self.held.wait()
        if self.problem is not None:
            raise self.problem
        self.kept[key] = content

    async def read(self, key: str) -> bytes:
        """What was put there last."""
        return self.kept[key]
