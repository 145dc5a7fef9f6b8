"""One suite for every place where checkpoints live."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.fakes.checkpoint_memory import WatchedStore
from tests.fakes.gateway_program import Replica
from tests.fakes.gateway_program import serving as serving_controller
from tests.fakes.gateway_server import TOKEN, FakeGateway, refusal, serving

from agenttask.api.checkpoint import MAX_CHECKPOINT_BYTES
from agenttask.api.document import GatewayDocument
from agenttask.runner.checkpoint_store import CheckpointStore, CheckpointTooLarge, CheckpointUnavailable, FileStore, MemoryStore
from agenttask.runner.gateway.client import GatewayClient
from agenttask.runner.gateway.store import GatewayStore

Make = Callable[[], CheckpointStore]


@pytest.fixture(params=["memory", "fake", "file", "gateway", "controller"])
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Make]:
    """Another client of the same store at each call."""
    async with AsyncExitStack() as stack:
        if request.param == "gateway":
            document = await stack.enter_async_context(serving(FakeGateway(), host="localhost"))
            yield lambda: gateway_store(document, stack)
        elif request.param == "controller":
            replica = Replica()
            replica.now_runs(2)
            document = await stack.enter_async_context(serving_controller(replica, tmp_path))
            yield lambda: gateway_store(document, stack, token=replica.token(2))
        elif request.param == "file":
            yield lambda: FileStore(tmp_path / "below" / "checkpoint.json")
        else:
            memory = WatchedStore() if request.param == "fake" else MemoryStore()
            yield lambda: memory


def gateway_store(
    document: GatewayDocument, stack: AsyncExitStack, *, attempt: int = 2, seconds: float = 10, token: str = TOKEN
) -> GatewayStore:
    client = GatewayClient(document, token, fenced=lambda _: None)
    stack.push_async_callback(client.aclose)
    return GatewayStore(client, attempt=attempt, load_seconds=seconds, save_seconds=seconds)


async def test_nothing_was_saved_at_first(make: Make) -> None:
    assert await make().load() is None


async def test_what_was_saved_last_is_there_for_another_client(make: Make) -> None:
    store = make()
    await store.save(b"one, and longer")
    await store.save(b"two")
    assert await make().load() == b"two"


async def test_a_checkpoint_of_the_largest_size_fits(make: Make) -> None:
    raw = b"x" * MAX_CHECKPOINT_BYTES
    await make().save(raw)
    assert await make().load() == raw


async def test_the_first_attempt_never_asks_a_gateway() -> None:
    gateway = FakeGateway()
    gateway.checkpoint = b"of nobody"
    async with AsyncExitStack() as stack:
        document = await stack.enter_async_context(serving(gateway, host="localhost"))
        assert await gateway_store(document, stack, attempt=1).load() is None
    assert gateway.asked == []


async def test_a_gateway_that_does_not_take_it_is_an_error_of_the_port() -> None:
    gateway = FakeGateway()
    async with AsyncExitStack() as stack:
        document = await stack.enter_async_context(serving(gateway, host="localhost"))
        store = gateway_store(document, stack)
        gateway.limit = 3
        with pytest.raises(CheckpointTooLarge, match="the checkpoint has 4 bytes"):
            await store.save(b"four")
        gateway.always["/v1/checkpoint"] = refusal(500, Retry_After="3600")  # longer than anybody here waits
        for ask in (store.load(), store.save(b"x")):
            with pytest.raises(CheckpointUnavailable, match="status 500"):
                await ask
