"""Creates objects and tells when each was sent: a process of its own, so that it shares no interpreter with the observer.

    BENCH_API=... python -m bench.control.load PATH BODY-FILE PREFIX COUNT [--rate PER-SECOND]

Without a rate as fast as sixteen writers can; with one, each object at its time, whether or not the answers to earlier ones are
there. Prints one JSON object: name to CLOCK_MONOTONIC seconds, which all processes of a machine share.
"""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Final

import uvloop
from bench.control.connection import Access, Api
from bench.control.objects import named

WRITERS: Final = 16


async def burst(api: Api, path: str, bodies: dict[str, bytes]) -> dict[str, float]:
    """All of them, by a few writers."""
    sent: dict[str, float] = {}
    waiting = iter(bodies.items())

    async def write() -> None:
        for name, body in waiting:
            sent[name] = time.monotonic()
            await api.send("POST", path, body)

    await asyncio.gather(*(write() for _ in range(WRITERS)))
    return sent


async def open_loop(api: Api, path: str, bodies: dict[str, bytes], rate: float) -> dict[str, float]:
    """Each at its time; the time that counts is the planned one, so a late sender is no gift."""
    sent: dict[str, float] = {}
    began = time.monotonic() + 0.1

    async def write(number: int, name: str, body: bytes) -> None:
        sent[name] = began + number / rate
        await asyncio.sleep(sent[name] - time.monotonic())
        await api.send("POST", path, body)

    await asyncio.gather(*(write(number, name, body) for number, (name, body) in enumerate(bodies.items())))
    return sent


async def run(path: str, body: bytes, prefix: str, count: int, rate: float | None) -> dict[str, float]:
    """Name to the second in which it was sent."""
    bodies = {name: named(body, name) for name in (f"{prefix}-{number:06d}" for number in range(count))}
    async with Api(Access.of()) as api:
        await api.get("/version")  # the first connection's handshake is nobody's latency
        return await (burst(api, path, bodies) if rate is None else open_loop(api, path, bodies, rate))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("path")
    parser.add_argument("body", type=Path)
    parser.add_argument("prefix")
    parser.add_argument("count", type=int)
    parser.add_argument("--rate", type=float)
    given = parser.parse_args()
    json.dump(uvloop.run(run(given.path, given.body.read_bytes(), given.prefix, given.count, given.rate)), sys.stdout)
