"""A fake API server and a client of it."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from tests.fakes.apiserver import FakeApiServer

from agenttask.controller.kube import KubeClient


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as server:
        yield server


@pytest.fixture
async def client(server: FakeApiServer) -> AsyncIterator[KubeClient]:
    async with aiohttp.ClientSession() as session:
        yield KubeClient(session, server.url)


@pytest.fixture
async def impatient(server: FakeApiServer) -> AsyncIterator[KubeClient]:
    """One that gives a watch up when it has heard nothing for half a second."""
    async with aiohttp.ClientSession() as session:
        yield KubeClient(session, server.url, stream_silence=0.5)
