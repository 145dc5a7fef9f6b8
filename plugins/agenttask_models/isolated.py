"""An engine in a process of its own, seen from the runner: a crash there fails its calls as retryable, and the next starts it anew.

For some 15 % more work per token. It holds what a broken CUDA context or a segfault would else take down; it does not hold
a lack of the container's memory, where the kernel ends the whole container.
"""

import asyncio
import contextlib
import itertools
import signal
import sys
from array import array
from collections.abc import AsyncGenerator, Mapping, Sequence

import msgspec

from agenttask.api.errors import AgentTaskError, Interrupted, ModelUnavailable
from agenttask.plugin.engine import EngineConfig, Sampling
from agenttask.plugin.llm import Chunk, Embeddings, Message
from agenttask_models.wire import (
    Asked,
    Cancel,
    Count,
    Counts,
    Create,
    Embed,
    Failed,
    Generate,
    Log,
    Piece,
    Ready,
    Told,
    Vectors,
    decode_told,
    error_of,
    frame,
    read_frame,
)

COMMAND = (sys.executable, "-m", "agenttask_models.child")
RESTARTS = 2
_STOP_SECONDS = 5.0
_PIPE_BYTES = 1 << 20
_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "HF_ENDPOINT", "SSL_CERT_FILE", "AGENTTASK_MODEL_CACHE")
_PASSED_ON_PREFIXES = ("CUDA_", "NVIDIA_", "PYTORCH_", "COVERAGE_")


class IsolatedEngine:
    """`Engine` whose weights are in a child process."""

    def __init__(self, model_id: str, create: Create, config: EngineConfig, environ: Mapping[str, str], command: Sequence[str]) -> None:
        self._name = model_id
        self._create = create
        self._log = config.log
        self._command = command
        self._environ = _clean(environ, config.threads)
        self._numbers = itertools.count(1)
        self._calls: dict[int, asyncio.Queue[Told | AgentTaskError]] = {}
        self._starting = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._restarts = 0
        self._closed = False
        self.device = create.device
        self.memory_bytes = 0
        self.failure: AgentTaskError | None = None
        """Set when the process died once too often."""

    @classmethod
    async def start(
        cls, model_id: str, device: str, config: EngineConfig, environ: Mapping[str, str], *, command: Sequence[str] = COMMAND
    ) -> "IsolatedEngine":
        """Load a model in a new process; errors are those of its factory."""
        create = Create(
            model_id=model_id,
            device=device,
            local=msgspec.structs.replace(config.local, isolation="Thread"),
            threads=config.threads,
            memory_bytes=config.memory_bytes,
            gpu_memory_fraction=config.gpu_memory_fraction,
            device_processes=config.device_processes,
            hub=config.hub,
        )
        engine = cls(model_id, create, config, environ, command)
        try:
            await engine._spawn()
        except BaseException:
            await engine.aclose()
            raise
        return engine

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    async def generate(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[Chunk, None]:
        """The answer piece by piece; leaving early cancels it over there."""
        call = next(self._numbers)
        ended = False
        answers = await self._ask(Generate(call=call, messages=tuple(messages), sampling=sampling))
        try:
            while not ended:
                told = await self._next(answers)
                assert isinstance(told, Piece)
                ended = told.chunk.finish_reason is not None
                yield told.chunk
        finally:
            self._forget(call, cancel=not ended)

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """One vector a text."""
        call = next(self._numbers)
        told = await self._one(Embed(call=call, texts=tuple(texts)))
        assert isinstance(told, Vectors)
        return Embeddings(vectors=tuple(array("f", vector) for vector in told.vectors), usage=told.usage)

    async def count_tokens(self, texts: Sequence[str]) -> Sequence[int]:
        """By the model's own tokenizer."""
        told = await self._one(Count(call=next(self._numbers), texts=tuple(texts)))
        assert isinstance(told, Counts)
        return told.counts

    async def aclose(self) -> None:
        """Close the pipe, and kill what does not end by itself."""
        self._closed = True
        process = self._process
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if self._listening is not None:
            await asyncio.wait({self._listening})

    async def _one(self, asked: Embed | Count) -> Told:
        answers = await self._ask(asked)
        answered = False
        try:
            told = await self._next(answers)
            answered = True
            return told
        finally:
            self._forget(asked.call, cancel=not answered)

    async def _next(self, answers: "asyncio.Queue[Told | AgentTaskError]") -> Told:
        told = await answers.get()
        if isinstance(told, AgentTaskError):
            raise told
        if isinstance(told, Failed):
            raise error_of(told)
        return told

    async def _ask(self, asked: Generate | Embed | Count) -> "asyncio.Queue[Told | AgentTaskError]":
        async with self._starting:
            if self._closed:
                raise self._ending()
            if self.failure is not None:
                raise self.failure
            if self.pid is None:
                await self._restart()
        answers = self._calls[asked.call] = asyncio.Queue()
        await self._send(asked)
        return answers

    async def _send(self, asked: Asked) -> None:
        """A pipe that is closed is told by the listener."""
        stdin = None if self._process is None else self._process.stdin
        if stdin is not None:
            with contextlib.suppress(ConnectionError, RuntimeError):
                stdin.write(frame(asked))
                await stdin.drain()

    def _forget(self, call: int, *, cancel: bool) -> None:
        self._calls.pop(call, None)
        stdin = None if self._process is None else self._process.stdin
        if cancel and stdin is not None and not stdin.is_closing():
            stdin.write(frame(Cancel(call=call)))

    async def _restart(self) -> None:
        if self._restarts == RESTARTS:
            self.failure = ModelUnavailable(f"the process of model {self._name!r} died {RESTARTS + 1} times; it is not started again")
            raise self.failure
        self._restarts += 1
        self._log(f"the process of model {self._name!r} is started again ({self._restarts} of {RESTARTS})")
        await self._spawn()

    async def _spawn(self) -> None:
        self._process = process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self._environ,
            limit=_PIPE_BYTES,
        )
        assert process.stdout is not None
        await self._send(self._create)
        while True:
            raw = await read_frame(process.stdout)
            if raw is None:
                raise self._died(await process.wait())
            match decode_told(raw):
                case Ready(device=device, memory_bytes=memory_bytes):
                    self.device, self.memory_bytes = device, memory_bytes
                    break
                case Log(message=message):
                    self._log(message)
                case Failed() as told:
                    raise error_of(told)
                case _:
                    continue
        self._listening = asyncio.create_task(self._listen(process, process.stdout), name=f"model {self._name}")

    async def _listen(self, process: asyncio.subprocess.Process, stdout: asyncio.StreamReader) -> None:
        """Hand answers to their calls, until the process ends; then all that wait are told."""
        error: AgentTaskError | None = None
        try:
            while (raw := await read_frame(stdout)) is not None:
                told = decode_told(raw)
                if isinstance(told, Log):
                    self._log(told.message)
                elif not isinstance(told, Ready) and told.call in self._calls:
                    self._calls[told.call].put_nowait(told)
        except (ModelUnavailable, ValueError) as nonsense:
            error = ModelUnavailable(f"the process of model {self._name!r} talks nonsense: {nonsense}")
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        code = await process.wait()
        for answers in self._calls.values():
            answers.put_nowait(self._ending() if self._closed else error or self._died(code))

    def _died(self, code: int) -> ModelUnavailable:
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        hint = "; the kernel kills so where memory is short" if code == -signal.SIGKILL else ""
        return ModelUnavailable(f"the process of model {self._name!r} ended {how}{hint}")

    def _ending(self) -> Interrupted:
        return Interrupted(f"model {self._name!r} is closed: the run is ending")


def _clean(environ: Mapping[str, str], threads: int) -> dict[str, str]:
    """What the process needs; no credential and no other variable of the runner's."""
    passed = {name: value for name, value in environ.items() if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)}
    return passed | {"OMP_NUM_THREADS": str(threads)}
