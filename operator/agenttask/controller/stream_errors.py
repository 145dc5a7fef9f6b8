"""Keeps kopf's streams alive where kopf 1.45.2 itself would end them, and the process with them (seen by running it).

A 410 as the answer to a watch, rather than as an event of it: asked again without the version or page that is too old, it
brings everything anew, as a list does. What else is refused (403 while a right is missing, 404 while the CRD is, 5xx of an
outage that lasts) is told to kopf as a lost connection: that is tried again for ever, with its back-off. And a request
that still waits for its turn, or for a fresh token, when kopf closes the session under it (a 401 of another stream).
"""

from typing import Final

import aiohttp

from agenttask.api.constants import MODEL_PLURAL, TASK_PLURAL

_GONE: Final = 410
_KOPFS: Final = (401, 429)
"""kopf logs in anew, and waits as long as the server asks."""


class Refused(aiohttp.ClientConnectionError):
    """A list or watch was refused."""


async def survive(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """An aiohttp middleware.

    Raises:
        Refused: with the status and what the API server says.
    """
    if request.url.name not in (TASK_PLURAL, MODEL_PLURAL):
        return await handler(request)
    response = await handler(request)
    if response.status == _GONE:
        response.close()
        request.url = request.url.without_query_params("resourceVersion", "continue")
        response = await handler(request)
    if response.status < 400 or response.status in _KOPFS:
        return response
    async with response:
        raise Refused(f"{response.status} {response.reason}: {(await response.text())[:500]}")


async def session_open(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """The innermost middleware of kopf's sessions: aiohttp 3.14 looks whether the session is closed only before the outermost.

    Raises:
        RuntimeError: as aiohttp itself says it; kopf then takes its new session.
    """
    if request.session.closed:
        raise RuntimeError("Session is closed")
    return await handler(request)
