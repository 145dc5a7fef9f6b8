"""The process of an isolated engine without torch: `python -m tests.fakes.model_process`, the real child over an engine of words.

Prompts tell it what to do: `die` ends it by SIGSEGV, `lost` loses the device, `wait` never answers, `env` tells its environment.
"""

import asyncio
import os
import signal
import sys

from agenttask.api.errors import ModelRejected, OutOfMemory
from agenttask.plugin.engine import EngineConfig, Sampling
from agenttask.plugin.llm import Chunk, Embeddings, Message, Usage
from agenttask_models import child
from agenttask_models.torch_errors import DeviceLost


class Words:
    """Answers its prompt word by word."""

    device = "cpu"
    memory_bytes = 42

    def __init__(self) -> None:
        self.waiting = 0

    async def generate(self, messages: tuple[Message, ...], sampling: Sampling):
        prompt = messages[-1].content
        match prompt:
            case "die":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "lost":
                raise DeviceLost("illegal memory access")
            case "refuse":
                raise ModelRejected("not that")
            case "break":
                raise ZeroDivisionError("by zero")
            case "waiting":
                prompt = str(self.waiting)
            case "env":
                prompt = " ".join(sorted(os.environ))
            case "wait":
                self.waiting += 1
                try:
                    yield Chunk(text="soon")
                    await asyncio.sleep(3600)
                finally:
                    self.waiting -= 1
        for word in prompt.split():
            yield Chunk(text=f"{word} ")
        yield Chunk(finish_reason="stop", usage=Usage(calls=1, output_tokens=sampling.max_tokens))

    async def embed(self, texts):
        if texts == ("wait",):
            await asyncio.sleep(3600)
        return Embeddings(vectors=tuple([float(len(text)), 0.5] for text in texts), usage=Usage(calls=1, input_tokens=len(texts)))

    async def count_tokens(self, texts):
        return [len(text) for text in texts]

    async def aclose(self) -> None:
        pass


class WordsFactory:
    """Makes it; the model's path may be a wish to fail."""

    async def create(self, model_id: str, device: str, config: EngineConfig) -> Words:
        config.log(f"{model_id} on {device}, {config.local.isolation}")
        match config.local.path:
            case "/full":
                raise OutOfMemory("too large")
            case "/die":
                os._exit(3)
            case "/babble":
                os.write(1, b"printed by a library\n")
        print("printed by Python")  # noqa: T201 - what must not disturb the pipe
        return Words()


if __name__ == "__main__":
    child.OptimizedFactory = WordsFactory
    sys.exit(child.main())
