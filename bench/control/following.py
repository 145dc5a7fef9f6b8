"""List and watch, listing anew whenever the watch ends: the API server drops a watcher that it finds slow."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

import aiohttp
import msgspec
from bench.control.connection import Api, Refused
from msgspec import Struct

logger: Final = logging.getLogger(__name__)


class ListMeta(Struct, gc=False, rename="camel"):
    """metadata of a list."""

    resource_version: str


class _List(Struct, gc=False):
    metadata: ListMeta
    items: list[msgspec.Raw] = []


class _Event(Struct, gc=False):
    type: str
    object: msgspec.Raw


async def follow(
    api: Api, path: str, kind: type[Any], seen: Callable[[str, Any], None], *, ready: asyncio.Event | None = None, **query: str
) -> None:
    """Hand each object to `seen` with ADDED, MODIFIED or DELETED; what a list holds is ADDED too, so `seen` must know repeats.

    It runs until it is cancelled; `ready` is set after the first list.
    """
    decode_list, decode_event, decode = (
        msgspec.json.Decoder(_List).decode,
        msgspec.json.Decoder(_Event).decode,
        msgspec.json.Decoder(kind).decode,
    )
    while True:
        why = "the server ended it"
        try:
            async with api.session.get(path, params=query) as response:
                if response.status != 200:
                    raise Refused(await response.text())
                listed = decode_list(await response.read())
            for item in listed.items:
                seen("ADDED", decode(item))
            if ready is not None:
                ready.set()
            watching = {**query, "watch": "true", "resourceVersion": listed.metadata.resource_version}
            async with api.session.get(path, params=watching, timeout=aiohttp.ClientTimeout(total=None)) as response:
                rest = b""
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        event = decode_event(line)
                        if event.type not in ("ADDED", "MODIFIED", "DELETED"):
                            break
                        seen(event.type, decode(event.object))
        except (aiohttp.ClientError, TimeoutError, Refused) as error:
            why = repr(error)
        logger.warning("the watch of %s: %s; listing anew", path, why)
        await asyncio.sleep(0.1)
