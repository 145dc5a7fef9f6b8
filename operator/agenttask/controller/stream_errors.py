"""Keeps kopf's streams alive where kopf 1.45.2 itself would end them, and the process with them (seen by running it).

A 410 as the answer to a watch, rather than as an event of it: asked again without the version or page that is too old, it
brings everything anew, as a list does. What else is refused (403 while a right is missing, 404 while the CRD is, 5xx of an
outage that lasts) is told to kopf as a lost connection: that is tried again for ever, with its back-off. A request that
waits for its turn, a fresh token or a connection when kopf closes the session under it (a 401 of another stream) is told
as one on a closed session: kopf goes on with its new one.
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


async def closed_under_way(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """The innermost middleware of kopf's sessions. aiohttp 3.14 asks once whether a session is closed, before the outermost one.

    Raises:
        RuntimeError: the session was closed since; in the words that aiohttp itself has for it.
    """
    try:
        return await handler(request)
    except (AssertionError, AttributeError) as error:  # a closed session has no pool any more
        if request.session.closed:
            raise RuntimeError("Session is closed") from error
        raise
