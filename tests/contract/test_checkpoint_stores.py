"""One suite for every place where checkpoints live."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fakes.checkpoint_memory import WatchedStore

from agenttask.api.checkpoint import MAX_CHECKPOINT_BYTES
from agenttask.runner.checkpoint_store import CheckpointStore, FileStore, MemoryStore

Make = Callable[[], CheckpointStore]


@pytest.fixture(params=["memory", "fake", "file"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Another client of the same store at each call."""
    memory = WatchedStore() if request.param == "fake" else MemoryStore()
    return (lambda: FileStore(tmp_path / "below" / "checkpoint.json")) if request.param == "file" else (lambda: memory)


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
