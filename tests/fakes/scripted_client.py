"""An LLM client that does, call by call, what a test says: answers, errors, waits; for the clients around clients."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from agenttask.plugin.llm import ChatRequest, Chunk, Completion, Embeddings, Usage

USAGE = Usage(calls=1, input_tokens=3, output_tokens=4)


class PlayedClient:
    """`acts` are played one a call, the last for ever: an error is raised, a number is seconds to wait, a text is the answer.

    A tuple plays several in one call; in a stream each text is a piece.
    """

    def __init__(self, *acts: object, usage: Usage = USAGE) -> None:
        self.acts = list(acts) or ["hello"]
        self.usage = usage
        self.calls: list[float] = []
        """The loop's time of each call."""
        self.running = 0
        self.most = 0
        self.closed = 0

    async def _play(self) -> AsyncGenerator[str, None]:
        self.calls.append(asyncio.get_running_loop().time())
        act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            for each in act if isinstance(act, tuple) else (act,):
                if isinstance(each, BaseException):
                    raise each
                if isinstance(each, str):
                    yield each
                else:
                    await asyncio.sleep(float(each))  # type: ignore[arg-type]  # a number
        finally:
            self.running -= 1

    async def chat(self, request: ChatRequest) -> Completion:
        text = "".join([piece async for piece in self._play()])
        return Completion(text=text, usage=self.usage, model="played-1")

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        played = self._play()
        try:
            async for piece in played:
                yield Chunk(text=piece, model="played-1")
        finally:
            await played.aclose()
        yield Chunk(usage=self.usage, finish_reason="stop", model="played-1")

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        async for _ in self._play():
            pass
        return Embeddings(vectors=tuple((1.0,) for _ in texts), usage=self.usage)

    async def aclose(self) -> None:
        self.closed += 1


async def called(client, how: str, request: ChatRequest) -> str:
    """The text of one call, by `chat`, `stream` or `embed`."""
    match how:
        case "chat":
            return (await client.chat(request)).text
        case "stream":
            return "".join([chunk.text async for chunk in client.stream(request)])
        case _:
            await client.embed(["a text"])
            return ""


async def until_the_end(stream, pieces: list[str]) -> None:
    """Read a stream that may fail; what came before is in `pieces`."""
    async for chunk in stream:
        pieces.append(chunk.text)  # noqa: PERF401 - a comprehension that fails keeps nothing


CALLS = ("chat", "stream", "embed")
