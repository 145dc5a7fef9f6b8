"""Watches that end at once are opened again later and later, each kind by itself."""

from typing import Any, cast

import aiohttp
from yarl import URL

from agenttask.controller.watch_pace import WatchPace


class Asked:
    """A request, as far as the pace looks at it."""

    def __init__(self, url: str) -> None:
        self.url = URL(url)


class Answered:
    """An answer, as far as the pace looks at it."""

    def __init__(self, status: int) -> None:
        self.status = status


class Line:
    """A pace on a clock of its own; `slept` are the waits so far."""

    def __init__(self) -> None:
        self.now, self.slept, self.opened = 0.0, list[float](), list[str]()
        self._pace = WatchPace(clock=lambda: self.now, random=lambda: 1.0, sleep=self._sleep)

    async def ask(self, url: str, status: int = 200) -> None:
        async def handler(request: Any) -> aiohttp.ClientResponse:
            self.opened.append(request.url.path)
            return cast("aiohttp.ClientResponse", Answered(status))

        await self._pace(cast("aiohttp.ClientRequest", Asked(url)), handler)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


async def test_short_watches_wait_longer_each_time() -> None:
    line = Line()
    for _ in range(10):
        await line.ask("http://server/tasks?watch=true")

    assert line.slept == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0]


async def test_a_watch_that_lasted_is_opened_again_at_once() -> None:
    line = Line()
    await line.ask("http://server/tasks?watch=true")
    await line.ask("http://server/tasks?watch=true")
    line.now += 60
    await line.ask("http://server/tasks?watch=true")
    await line.ask("http://server/tasks?watch=true")

    assert line.slept == [0.2, 0.2]


async def test_other_kinds_and_other_requests_do_not_wait() -> None:
    line = Line()
    await line.ask("http://server/tasks?watch=true")
    await line.ask("http://server/models?watch=true")
    await line.ask("http://server/tasks?limit=500")
    await line.ask("http://server/tasks")

    assert (line.slept, len(line.opened)) == ([], 4)


async def test_what_is_refused_was_no_stream() -> None:
    line = Line()
    for status in (403, 403, 403, 200, 403, 200):
        await line.ask("http://server/tasks?watch=true", status)

    assert line.slept == [0.2, 0.2]
