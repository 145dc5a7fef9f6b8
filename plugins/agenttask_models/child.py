"""`python -m agenttask_models.child`: one engine in a process of its own, for `local.isolation: Process`.

It reads calls from standard input and answers on standard output; what libraries print goes to standard error. It ends with
its parent (the pipe closes, and the kernel is asked to kill it), and when the device is lost: only a new process helps then.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from array import array
from collections.abc import AsyncGenerator

from agenttask.api.errors import AgentTaskError
from agenttask.plugin.engine import Engine, EngineConfig, ModelFactory, OccupiesMemory
from agenttask.plugin.llm import CountsTokens
from agenttask_models.optimized import OptimizedFactory
from agenttask_models.torch_errors import DeviceLost
from agenttask_models.wire import (
    Asked,
    Cancel,
    Count,
    Counts,
    Create,
    Embed,
    Generate,
    Log,
    Piece,
    Ready,
    Told,
    Vectors,
    decode_asked,
    failed,
    frame,
    read_frame,
)

EXIT_LOST, EXIT_ORPHAN = 70, 71
_PR_SET_PDEATHSIG = 1
_PIPE_BYTES = 1 << 20


class Child:
    """Serves one parent."""

    def __init__(self, factory: ModelFactory, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._factory = factory
        self._reader = reader
        self._writer = writer
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._loop = asyncio.get_running_loop()
        self._lost = False

    async def serve(self) -> int:
        """Until the parent closes the pipe; the exit code."""
        raw = await read_frame(self._reader)
        create = None if raw is None else decode_asked(raw)
        if not isinstance(create, Create):
            return EXIT_ORPHAN
        try:
            engine = await self._load(create)
        except Exception as error:  # noqa: BLE001 - the parent is told, and raises it
            self._tell(failed(0, error))
            await self._writer.drain()
            return 1
        while not self._lost and (raw := await read_frame(self._reader)) is not None:
            self._take(decode_asked(raw), engine)
        for call in self._calls.values():
            call.cancel()
        if self._lost:
            return EXIT_LOST
        await engine.aclose()
        return 0

    async def _load(self, create: Create) -> Engine:
        config = EngineConfig(
            local=create.local,
            threads=create.threads,
            memory_bytes=create.memory_bytes,
            gpu_memory_fraction=create.gpu_memory_fraction,
            device_processes=create.device_processes,
            hub=create.hub,
            log=lambda message: self._soon(Log(message=message)),
        )
        engine = await self._factory.create(create.model_id, create.device, config)
        held = (engine.device, engine.memory_bytes) if isinstance(engine, OccupiesMemory) else (create.device, 0)
        self._tell(Ready(device=held[0], memory_bytes=held[1]))
        return engine

    def _take(self, asked: Asked, engine: Engine) -> None:
        match asked:
            case Cancel(call=call):
                if call in self._calls:
                    self._calls[call].cancel()
            case Generate(call=call) | Embed(call=call) | Count(call=call):
                self._calls[call] = self._loop.create_task(self._answer(asked, engine), name=f"call {call}")
            case Create():
                pass  # one engine a process; a second wish is not ours

    async def _answer(self, asked: Generate | Embed | Count, engine: Engine) -> None:
        try:
            match asked:
                case Generate():
                    chunks = engine.generate(asked.messages, asked.sampling)
                    try:
                        async for chunk in chunks:
                            self._tell(Piece(call=asked.call, chunk=chunk))
                            await self._writer.drain()
                    finally:
                        if isinstance(chunks, AsyncGenerator):
                            await chunks.aclose()
                case Embed():
                    found = await engine.embed(asked.texts)
                    vectors = tuple(array("f", vector).tobytes() for vector in found.vectors)
                    self._tell(Vectors(call=asked.call, vectors=vectors, usage=found.usage))
                case Count():
                    counts = await engine.count_tokens(asked.texts) if isinstance(engine, CountsTokens) else ()
                    self._tell(Counts(call=asked.call, counts=tuple(counts)))
        except Exception as error:  # noqa: BLE001 - the parent is told, and raises it
            self._tell(failed(asked.call, error))
            if isinstance(error, DeviceLost):
                self._lost = True
                self._reader.feed_eof()
        finally:
            self._calls.pop(asked.call, None)

    def _tell(self, message: Told) -> None:
        self._writer.write(frame(message))

    def _soon(self, message: Told) -> None:
        """From a thread too."""
        self._loop.call_soon_threadsafe(self._tell, message)


def die_with_parent() -> None:
    """Ask the kernel to kill us when the parent's thread ends; the closing pipe says the same, to a loop that still turns."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


async def run(factory: ModelFactory, incoming: int, outgoing: int) -> int:
    """Serve over two pipes."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_PIPE_BYTES)
    source, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(incoming, "rb", buffering=0))
    pipe, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(outgoing, "wb", buffering=0))
    writer = asyncio.StreamWriter(pipe, protocol, None, loop)
    try:
        return await Child(factory, reader, writer).serve()
    finally:
        writer.close()
        source.close()


def main() -> int:
    """The process."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from a terminal it reaches the whole group; the parent decides
    outgoing = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    code = EXIT_ORPHAN
    with contextlib.suppress(AgentTaskError, BrokenPipeError):
        code = asyncio.run(run(OptimizedFactory(), sys.stdin.fileno(), outgoing))
    sys.stderr.flush()
    os._exit(code)  # threads of a broken device may never end


if __name__ == "__main__":
    main()
