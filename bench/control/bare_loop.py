"""The least that a controller can do: watch AgentTasks, POST a fixed pod for each. What our controller adds is measured against it.

BENCH_API=... python -m bench.control.bare_loop POD-BODY-FILE
"""

import asyncio
import sys
from pathlib import Path

import uvloop
from bench.control.connection import Access, Api, Refused
from bench.control.following import follow
from bench.control.objects import PODS, TASKS, named
from bench.control.observer import Object


async def serve(body: bytes) -> None:
    """Until it is killed."""
    known: set[str] = set()
    posts: set[asyncio.Task[None]] = set()
    async with Api(Access.of()) as api:

        async def post(name: str) -> None:
            try:
                await api.send("POST", PODS, named(body, name))
            except Refused as error:
                print(error, flush=True)

        def seen(_kind: str, task: Object) -> None:
            if task.metadata.uid not in known:
                known.add(task.metadata.uid)
                posting = asyncio.create_task(post(task.metadata.name))
                posts.add(posting)
                posting.add_done_callback(posts.discard)

        await follow(api, TASKS, Object, seen)


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]).read_bytes()))
