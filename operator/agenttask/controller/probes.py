"""`/healthz` and `/readyz`: alive means that the loop answers and the drivers live, ready that the view is fresh.

kopf has a liveness endpoint only, and it does not know of our watches.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

Check = Callable[[], str | None]
"""What is wrong, or None."""
STALE_SECONDS: Final = 180.0
"""A watch that said nothing for so long, not even a bookmark, shows an old world."""


@asynccontextmanager
async def serve(port: int, *, alive: Check, ready: Check, missing: Check = lambda: None) -> AsyncIterator[int]:
    """Answer both probes while the block runs; yields the port. `missing` is told beside a good answer."""

    async def healthz(_: web.Request) -> web.Response:
        return _answer(alive())

    async def readyz(_: web.Request) -> web.Response:
        return _answer(ready(), missing())

    application = web.Application()
    application.router.add_get("/healthz", healthz)
    application.router.add_get("/readyz", readyz)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, port=port)
        await site.start()
        # With port 0 each family gets a port of its own; IPv4's is told, whose addresses are pairs.
        yield next(one[1] for one in sorted(runner.addresses, key=len))
    finally:
        await runner.cleanup()


def _answer(problem: str | None, missing: str | None = None) -> web.Response:
    return web.Response(text=problem or (f"ok, but {missing}" if missing else "ok"), status=503 if problem else 200)
