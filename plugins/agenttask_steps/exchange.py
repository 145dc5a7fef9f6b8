"""One HTTP request to a host whose addresses were checked, and its response as typed errors and bounded bytes.

The URL that goes to the session has the checked address in place of the name; the name is in the header Host, in TLS' SNI,
and is what the certificate is held against. So no session, pool or protocol resolves it a second time, and DNS that gives
another answer then changes nothing. Cookies are nobody's: a jar keeps none for an address.
"""

import contextlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence

import aiohttp
from msgspec import Struct

from agenttask.api.errors import OutputTooLarge, ServiceUnavailable, StepFailed
from agenttask.api.report import shorten
from agenttask_steps.addresses import Address
from agenttask_steps.hosts import Target

_TIMEOUT = aiohttp.ClientTimeout(total=3600, sock_connect=10, sock_read=60)
"""Of one exchange. A step sets its own with `timeoutSeconds`; a server that is silent for a minute is gone."""
_CHUNK_BYTES = 64 * 1024
_SHOWN_CHARACTERS = 200


class Asked(Struct, frozen=True, kw_only=True):
    """What is sent."""

    method: str
    headers: Mapping[str, str]
    body: bytes | None


@contextlib.asynccontextmanager
async def exchange(
    session: aiohttp.ClientSession, target: Target, addresses: Sequence[Address], asked: Asked
) -> AsyncIterator[aiohttp.ClientResponse]:
    """The response; the next address is tried where one takes no connection.

    Raises:
        ServiceUnavailable: no connection, no answer in time, or it broke off.
        StepFailed: TLS does not come about, or what was answered is no HTTP.
    """
    async with contextlib.AsyncExitStack() as stack:
        with _typed(target):
            for left, address in enumerate(addresses, start=1 - len(addresses)):
                try:
                    response = await stack.enter_async_context(_request(session, target, address, asked))
                    break
                except aiohttp.ClientConnectorSSLError:
                    raise
                except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                    if not left:
                        raise
        yield response


def _request(
    session: aiohttp.ClientSession, target: Target, address: Address, asked: Asked
) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
    return session.request(
        asked.method,
        target.url.with_host(str(address)),
        headers={"Accept": "*/*", "User-Agent": "agenttask", **asked.headers, "Host": target.authority},
        data=asked.body,
        allow_redirects=False,
        timeout=_TIMEOUT,
        server_hostname=target.host if target.scheme == "https" else None,
    )


async def chunks(response: aiohttp.ClientResponse, target: Target, limit: int, remedy: str) -> AsyncGenerator[bytes, None]:
    """The body, decompressed, piece by piece; never more than a piece of it is in memory.

    Raises:
        OutputTooLarge: more than `limit` bytes, said or sent.
        ServiceUnavailable, StepFailed: as `exchange`.
    """
    too_large = OutputTooLarge(f"the body from {target.authority!r} has more than {limit} bytes; {remedy}")
    if (response.content_length or 0) > limit:
        raise too_large
    taken = 0
    pieces = response.content.iter_chunked(_CHUNK_BYTES).__aiter__()
    while True:
        with _typed(target):
            try:
                piece = await anext(pieces)
            except StopAsyncIteration:
                return
        taken += len(piece)
        if taken > limit:
            raise too_large
        yield piece


@contextlib.contextmanager
def _typed(target: Target) -> Iterator[None]:
    """What aiohttp raises as what a user can act on. Its errors are not chained where they hold the request with its headers."""
    who = f"{target.scheme}://{target.authority}"
    try:
        yield
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError, ssl.SSLError) as error:
        raise StepFailed(f"{who}: TLS failed: {_reason(error)}") from None
    except aiohttp.ClientConnectorError as error:
        raise ServiceUnavailable(f"{who} cannot be connected to: {error.os_error.strerror or error.os_error}") from None
    except TimeoutError:
        raise ServiceUnavailable(
            f"{who} did not answer in time ({_TIMEOUT.sock_connect} s to connect, {_TIMEOUT.sock_read} s of silence)"
        ) from None
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError, aiohttp.ClientOSError) as error:
        raise ServiceUnavailable(f"{who} broke off: {type(error).__name__}") from None
    except aiohttp.ClientResponseError as error:
        raise StepFailed(f"{who} answered what is no HTTP: {shorten(error.message, _SHOWN_CHARACTERS)}") from None
    except (aiohttp.ClientError, OSError) as error:
        raise ServiceUnavailable(f"{who} failed: {type(error).__name__}: {error}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return str(error.certificate_error)
    return str(error.os_error if isinstance(error, aiohttp.ClientConnectorSSLError) else error)
