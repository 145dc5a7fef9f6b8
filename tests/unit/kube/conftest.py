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
        yield KubeClient(session, server.url, request_timeout=2.0, stream_silence=0.5)
