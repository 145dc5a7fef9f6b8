"""JSON over HTTP to one model endpoint: what is sent along, what is read at most, and every failure as a typed error.

On the model's aiohttp session, which knows its headers, CA and HTTP/2 mode, and msgspec; no SDK, which costs five times
the CPU a call. An endpoint may be anybody's, so each length has a bound, counted after decompression. No retries here:
those are a client around a client.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import msgspec

from agenttask.api.document import ModelDocument
from agenttask.api.errors import InvalidTask, ModelRejected, ModelUnavailable
from agenttask.plugin.llm import ClientContext
from agenttask_llm.deadline import Deadline
from agenttask_llm.failures import covered, failure_of, shown
from agenttask_llm.settings import checked_credential, field_of
from agenttask_llm.sse import EventStream, MalformedStream

_BODY_BYTES = 32 << 20
"""32 vectors of 16,384 dimensions; nothing that is asked for here is larger."""
_FAILURE_BYTES = 16 << 10
_READ_BYTES = 64 << 10
_SHOWN_CHARACTERS = 80
T = TypeVar("T")


class Endpoint:
    """One model's base URL. `signed` gives the headers that carry a credential; `now` is Unix seconds."""

    def __init__(
        self,
        model: ModelDocument,
        base: str,
        context: ClientContext,
        *,
        signed: Callable[[str], Mapping[str, str]],
        headers: Mapping[str, str] | None = None,
        now: Callable[[], float],
    ) -> None:
        self.model = model
        self.base = base.rstrip("/")
        self.credential = checked_credential(model, context.credential)
        self._session = context.session
        self._now = now
        self._headers = {"Content-Type": "application/json", **(headers or {}), **(signed(self.credential) if self.credential else {})}
        self._timeout = aiohttp.ClientTimeout(total=model.timeouts.total_seconds, sock_connect=model.timeouts.connect_seconds)

    @property
    def who(self) -> str:
        """How errors begin."""
        return f"model {self.model.name!r}: {self.base}"

    def first_piece(self) -> Deadline:
        """`timeouts.firstTokenSeconds`, from now."""
        seconds = self.model.timeouts.first_token_seconds
        return Deadline(seconds, lambda: ModelUnavailable(f"{self.who} did not begin to answer in time (firstTokenSeconds {seconds})"))

    async def ask(self, path: str, body: Mapping[str, Any], kind: type[T], *, hint: str = "") -> T:
        """The answer in one response; `hint` is the remedy where the request is refused as such."""
        async with self._post(path, body, "application/json", hint) as response:
            return self.decode(await self._body(response), kind)

    async def events(self, path: str, body: Mapping[str, Any], kind: type[T], *, last: str = "", hint: str = "") -> AsyncGenerator[T, None]:
        """The answer as events, up to one whose data is `last`. Leaving early closes the connection, which ends it there too."""
        async with self._post(path, body, "text/event-stream", hint) as response:
            if response.content_type != "text/event-stream":
                raise ModelRejected(
                    f"{self.who} answered with {response.content_type} where a stream of events was asked for; is `endpoint` right?"
                )
            stream = EventStream()
            try:
                async for data in response.content.iter_any():
                    for event in stream.feed(data):
                        if event.strip() == last:
                            return
                        yield self.decode(event.encode(), kind)
                for event in stream.end():
                    if event.strip() != last:
                        yield self.decode(event.encode(), kind)
            except MalformedStream as error:
                raise ModelRejected(f"{self.who} sent a malformed stream: {error}") from error

    def decode(self, raw: bytes, kind: type[T]) -> T:
        """JSON of this shape."""
        try:
            return msgspec.json.decode(raw, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            begin = covered(raw[:_FAILURE_BYTES].decode("utf-8", "replace"), self.credential)[:_SHOWN_CHARACTERS]
            raise ModelRejected(f"{self.who} answered what is no answer ({error}): {begin!r}; is `endpoint` right?") from error

    @asynccontextmanager
    async def _post(self, path: str, body: Mapping[str, Any], accept: str, hint: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response with status 200; whatever the transport throws becomes one of our errors.

        Errors of aiohttp are not chained where they hold the request: its headers hold the credential.
        """
        try:
            raw = msgspec.json.encode(body)
        except UnicodeEncodeError as error:
            raise ModelRejected(f"{self.who}: the text cannot be sent as UTF-8: half of a surrogate pair at {error.start}") from error
        headers = {**self._headers, "Accept": accept}
        try:
            async with self._session().post(
                self.base + path, data=raw, headers=headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                if response.status != 200:
                    beginning = await _beginning(response)
                    raise failure_of(
                        self.model,
                        self.base,
                        path,
                        response.status,
                        response.headers,
                        beginning,
                        credential=self.credential,
                        now=self._now(),
                        hint=hint,
                    )
                yield response
        except TimeoutError as error:
            limits = self.model.timeouts
            raise ModelUnavailable(
                f"{self.who} did not answer in time (connectSeconds {limits.connect_seconds}, totalSeconds {limits.total_seconds})"
            ) from error
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError) as error:
            raise ModelRejected(
                f"{self.who}: its certificate is not trusted ({error}); an authority of your own belongs into `caBundle`"
            ) from error
        except (aiohttp.InvalidURL, ValueError) as error:  # after those of certificates, which are ValueErrors too
            raise InvalidTask(field_of(self.model, "endpoint"), f"{self.base!r} is no usable URL: {error}") from None
        except aiohttp.ClientResponseError as error:
            raise ModelRejected(f"{self.who} does not speak HTTP: {shown(error.message, self.credential)}") from None
        except aiohttp.ClientPayloadError as error:
            raise ModelUnavailable(f"{self.who} broke off in the middle of its answer: {shown(str(error), self.credential)}") from error
        except aiohttp.ClientError as error:
            raise ModelUnavailable(f"{self.who} cannot be reached: {self._why(error)}") from error

    def _why(self, error: aiohttp.ClientError) -> str:
        """What the transport says; a server that hangs up while TLS begins leaves an error without a word."""
        cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        words = shown(str(cause), self.credential) or type(cause).__name__
        hung_up = isinstance(cause, ConnectionResetError) and self.base.startswith("https:")
        return f"{words}; does it speak TLS? `endpoint` begins with https:" if hung_up else words

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_chunked(_READ_BYTES):
            body += chunk
            if len(body) > _BODY_BYTES:
                raise ModelRejected(f"{self.who} answered with more than {_BODY_BYTES} bytes")
        return bytes(body)


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """Enough of a body to find the server's message in."""
    body = bytearray()
    async for chunk in response.content.iter_chunked(_FAILURE_BYTES):
        body += chunk
        if len(body) >= _FAILURE_BYTES:
            break
    return bytes(body)
