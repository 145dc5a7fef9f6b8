"""A model server that does as a test says: late, wrong, in pieces, or not at all. On aiohttp, in this process.

It speaks OpenAI's API below `/v1` and Anthropic's Messages API, echoes the last message as `echo: ...`, a word a chunk, and
embeds with the scripted client's word vectors. The official SDKs of both are pointed at it (tests/contract), so that what
our clients are tested with is what is really spoken.
"""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Iterable
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
    statuses: list[int] = field(default_factory=list)
    """One a request, before `status`."""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """Sent in place of any answer."""
    endless: bytes | None = None
    """Sent for ever in place of any answer."""
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
        self.sent = 0
        """Bytes of an endless body."""
        self.running = 0
        self.most = 0
        """How many requests were under way at once, and ever were."""
        self.url = ""

    @property
    def endpoint(self) -> str:
        """The base URL for an AgentModel of client `openai`; that of `anthropic` is `url`."""
        return f"{self.url}/v1"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One request, counted while it lasts."""
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self._answer(request)
        finally:
            self.running -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.requests.append(asked)
        self.headers.append(dict(request.headers))
        self.paths.append(request.path)
        behaviour = self.behaviour
        await asyncio.sleep(behaviour.delay)
        status = behaviour.statuses.pop(0) if behaviour.statuses else behaviour.status
        if behaviour.body is not None or status != 200:
            return web.Response(status=status, body=behaviour.body or b"", content_type=behaviour.content_type, headers=behaviour.headers)
        if behaviour.endless is not None:
            return await self._endless(request, behaviour.endless)
        if request.path.endswith("/embeddings"):
            return web.json_response(self._vectors(asked["input"]))
        speech = speech_of(request.path, asked, usage=behaviour.usage)
        if asked.get("stream"):
            return await self._stream(request, list(speech.events(asked, done=behaviour.done)))
        return web.json_response(speech.whole())

    async def _stream(self, request: web.Request, events: list[str]) -> web.StreamResponse:
        behaviour = self.behaviour
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            for number, event in enumerate(events if behaviour.events is None else behaviour.events):
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

    async def _endless(self, request: web.Request, piece: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": self.behaviour.content_type, **self.behaviour.headers})
        await response.prepare(request)
        try:
            while True:
                await response.write(piece)
                self.sent += len(piece)
        except (ConnectionError, asyncio.CancelledError):
            self.disconnected.set()
        return response

    async def _gone(self, request: web.Request) -> None:
        while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110 - a transport sets no event
            await asyncio.sleep(0.01)
        self.disconnected.set()

    def _vectors(self, texts: list[str]) -> dict[str, Any]:
        vectors = [{"object": "embedding", "index": index, "embedding": word_vector(text, 64)} for index, text in enumerate(texts)]
        if self.behaviour.shuffle:
            vectors.reverse()
        read = sum(len(text.split()) for text in texts)
        usage = {"usage": {"prompt_tokens": read, "total_tokens": read}} if self.behaviour.usage else {}
        return {"object": "list", "model": "scripted-1", "data": vectors, **usage}


class _OpenAI:
    """An answer as OpenAI's chat completions tell it."""

    def __init__(self, pieces: list[str], *, cut: bool, read: int, usage: bool) -> None:
        self._pieces = pieces
        self._reason = "length" if cut else "stop"
        counted = {"prompt_tokens": read, "completion_tokens": len(pieces), "total_tokens": read + len(pieces)}
        self._usage = {"usage": counted} if usage else {}

    def whole(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": "".join(self._pieces)}
        choices = [{"index": 0, "message": message, "finish_reason": self._reason}]
        return {"id": "chat-1", "object": "chat.completion", "created": 1, "model": "scripted-1", "choices": choices, **self._usage}

    def events(self, asked: dict[str, Any], *, done: bool) -> Iterable[str]:
        def event(delta: dict[str, Any] | None, finish_reason: str | None = None, **fields: Any) -> str:
            choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
            head = {"id": "chat-1", "object": "chat.completion.chunk", "created": 1, "model": "scripted-1", "choices": choices}
            return f"data: {json.dumps(head | fields, ensure_ascii=False)}\n\n"

        yield ": a comment\n\n"
        yield event({"role": "assistant"})
        for piece in self._pieces:
            yield event({"content": piece}, usage=None)
        yield event({}, self._reason)
        if asked.get("stream_options") and self._usage:
            yield event(None, **self._usage)
        if done:
            yield "data: [DONE]\n\n"


class _Anthropic:
    """An answer as Anthropic's messages tell it."""

    def __init__(self, pieces: list[str], *, cut: bool, read: int, usage: bool) -> None:
        self._pieces = pieces
        self._reason = "max_tokens" if cut else "end_turn"
        self._read = read if usage else 0
        self._written = len(pieces) if usage else 0

    def whole(self) -> dict[str, Any]:
        return self._message([{"type": "text", "text": "".join(self._pieces)}], self._reason, self._written)

    def events(self, asked: dict[str, Any], *, done: bool) -> Iterable[str]:
        def event(kind: str, **fields: Any) -> str:
            return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}, ensure_ascii=False)}\n\n"

        yield event("message_start", message=self._message([], None, 1))
        yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        yield event("ping")
        for piece in self._pieces:
            yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
        yield event("content_block_stop", index=0)
        delta = {"stop_reason": self._reason, "stop_sequence": None}
        yield event("message_delta", delta=delta, usage={"output_tokens": self._written})
        if done:
            yield event("message_stop")

    def _message(self, content: list[dict[str, Any]], reason: str | None, written: int) -> dict[str, Any]:
        head = {"id": "msg-1", "type": "message", "role": "assistant", "model": "scripted-1", "content": content}
        usage = {"input_tokens": self._read, "output_tokens": written}
        return {**head, "stop_reason": reason, "stop_sequence": None, "usage": usage}


def speech_of(path: str, asked: dict[str, Any], *, usage: bool = True) -> "_OpenAI | _Anthropic":
    """The echo of what was asked, as the API of this path tells it."""
    limit = asked.get("max_tokens", asked.get("max_completion_tokens", 1024))
    pieces = re.findall(r"\s*\S+", f"echo: {asked['messages'][-1]['content']}")
    words = sum(len(each["content"].split()) for each in asked["messages"])
    speak = _Anthropic if path.endswith("/messages") else _OpenAI
    return speak(pieces[:limit], cut=len(pieces) > limit, read=words + len(asked.get("system", "").split()), usage=usage)


@asynccontextmanager
async def llm_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[LLMServer]:
    """A running server on a free port of this machine."""
    server = LLMServer()
    application = web.Application()
    for path in ("/v1/chat/completions", "/v1/embeddings", "/v1/messages"):
        application.router.add_post(path, server.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"{'http' if tls is None else 'https'}://{host}:{port}"
    try:
        yield server
    finally:
        await runner.cleanup()
