"""An OpenAI-compatible server that does as a test says: late, wrong, in pieces, or not at all. On aiohttp, in this process.

It echoes the last message as `echo: ...`, a word a chunk, and embeds with the scripted client's word vectors.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from agenttask_llm.word_vectors import word_vector


@dataclass
class Behaviour:
    """The knobs; a test turns them while the server runs."""

    delay: float = 0.0
    """Seconds before the answer begins."""
    chunk_delay: float = 0.0
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """Sent in place of any answer."""
    content_type: str = "application/json"
    events: list[str] | None = None
    """Sent in place of the stream's events, as they stand."""
    cut: int | None = None
    """The stream's bytes are written in pieces of this size."""
    stall_after: int | None = None
    """After so many events of a stream nothing more comes."""
    hang_up_after: int | None = None
    """After so many events the connection is closed hard."""
    usage: bool = True
    done: bool = True
    shuffle: bool = False
    """Vectors come in another order than their texts; `index` tells."""


class LLMServer:
    """What was asked, and how it will be answered."""

    def __init__(self) -> None:
        self.behaviour = Behaviour()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.disconnected = asyncio.Event()
        """A client left before its stream had ended."""
        self.url = ""

    @property
    def endpoint(self) -> str:
        """The base URL for an AgentModel."""
        return f"{self.url}/v1"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.requests.append(asked)
        self.headers.append(dict(request.headers))
        self.paths.append(request.path)
        behaviour = self.behaviour
        await asyncio.sleep(behaviour.delay)
        if behaviour.body is not None or behaviour.status != 200:
            return web.Response(
                status=behaviour.status, body=behaviour.body or b"", content_type=behaviour.content_type, headers=behaviour.headers
            )
        if request.path.endswith("/embeddings"):
            return web.json_response(self._vectors(asked["input"]))
        text = f"echo: {asked['messages'][-1]['content']}"
        limit = asked.get("max_tokens", asked.get("max_completion_tokens"))
        pieces = re.findall(r"\s*\S+", text)
        reason, pieces = ("stop", pieces) if len(pieces) <= limit else ("length", pieces[:limit])
        usage = {"prompt_tokens": sum(len(m["content"].split()) for m in asked["messages"]), "completion_tokens": len(pieces)}
        if asked.get("stream"):
            return await self._stream(request, pieces, reason, usage if asked.get("stream_options") else None)
        message = {"role": "assistant", "content": "".join(pieces)}
        answer = {"model": "scripted-1", "choices": [{"index": 0, "message": message, "finish_reason": reason}]}
        return web.json_response(answer | ({"usage": usage} if behaviour.usage else {}))

    async def _stream(self, request: web.Request, pieces: list[str], reason: str, usage: dict[str, int] | None) -> web.StreamResponse:
        behaviour = self.behaviour
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            for number, event in enumerate(self._events(pieces, reason, usage) if behaviour.events is None else behaviour.events):
                if behaviour.hang_up_after == number and request.transport is not None:
                    request.transport.abort()
                    return response
                if behaviour.stall_after == number:
                    await self._gone(request)
                    return response
                raw = event.encode("utf-8", "surrogateescape")
                for start in range(0, len(raw), behaviour.cut or len(raw)):
                    await response.write(raw[start : start + (behaviour.cut or len(raw))])
                    if behaviour.cut:
                        await asyncio.sleep(0)
                await asyncio.sleep(behaviour.chunk_delay)
            await response.write_eof()
        except (ConnectionError, asyncio.CancelledError):
            self.disconnected.set()
        return response

    async def _gone(self, request: web.Request) -> None:
        while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110 - a transport sets no event
            await asyncio.sleep(0.01)
        self.disconnected.set()

    def _events(self, pieces: list[str], reason: str, usage: dict[str, int] | None) -> list[str]:
        def event(**fields: Any) -> str:
            return f"data: {json.dumps({'model': 'scripted-1', **fields}, ensure_ascii=False)}\n\n"

        events = [": a comment\n\n", event(choices=[{"index": 0, "delta": {"role": "assistant"}}])]
        events += [event(choices=[{"index": 0, "delta": {"content": piece}}], usage=None) for piece in pieces]
        events.append(event(choices=[{"index": 0, "delta": {}, "finish_reason": reason}]))
        if usage is not None and self.behaviour.usage:
            events.append(event(choices=[], usage=usage))
        return [*events, "data: [DONE]\n\n"] if self.behaviour.done else events

    def _vectors(self, texts: list[str]) -> dict[str, Any]:
        vectors = [{"index": index, "embedding": word_vector(text, 64)} for index, text in enumerate(texts)]
        if self.behaviour.shuffle:
            vectors.reverse()
        usage = {"usage": {"prompt_tokens": sum(len(text.split()) for text in texts)}} if self.behaviour.usage else {}
        return {"data": vectors, **usage}


@asynccontextmanager
async def llm_server() -> AsyncIterator[LLMServer]:
    """A running server on a free port of this machine."""
    server = LLMServer()
    application = web.Application()
    application.router.add_post("/v1/chat/completions", server.answer)
    application.router.add_post("/v1/embeddings", server.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}"
    try:
        yield server
    finally:
        await runner.cleanup()
