"""What the tests of HTTP/2 share: a CA, and sessions that trust it and are closed at the end."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from tests.fakes.http2_server import Authority

from agenttask.runner.http2.settings import Http2Settings
from agenttask.runner.http_settings import HttpSettings
from agenttask.runner.session import SharedSession


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def ca_file(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> str:
    return authority.write(str(tmp_path_factory.mktemp("ca") / "ca.pem"))


@pytest.fixture
async def sessions() -> AsyncIterator[Callable[..., SharedSession]]:
    """Makes `SharedSession`s with these settings; nothing of them is left after the test."""
    made: list[SharedSession] = []

    def make(http: HttpSettings | None = None, traces: tuple = (), **http2: float) -> SharedSession:
        http2.setdefault("patience_seconds", 60)  # no test is about how fast this machine dials, but those that say so
        made.append(SharedSession(traces, settings=http or HttpSettings(total_seconds=60), http2=Http2Settings(**http2)))
        return made[-1]

    yield make
    for session in made:
        await session.aclose()
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task() and "http2" in repr(task.get_coro())]
    assert not [task for task in left if "tests" not in repr(task.get_coro())], left
