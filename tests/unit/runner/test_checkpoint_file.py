"""The checkpoint as a file: whole or not at all, for its owner only, and no trap for its reader."""

import os
import stat
from pathlib import Path

import pytest

from agenttask.api.checkpoint import MAX_CHECKPOINT_BYTES
from agenttask.runner.checkpoint_store import CheckpointUnavailable, FileStore


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_only_the_owner_may_read_it_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    await FileStore(tmp_path / "c.json").save(b"{}")
    assert stat.S_IMODE((tmp_path / "c.json").stat().st_mode) == 0o600
    assert names(tmp_path) == ["c.json"]


async def test_a_save_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointUnavailable, match=r"folder' cannot be written: Is a directory"):
        await FileStore(tmp_path / "folder").save(b"{}")
    assert names(tmp_path) == ["folder"]


async def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointUnavailable, match="no regular file"):
        await FileStore(tmp_path / "pipe").load()
    with pytest.raises(CheckpointUnavailable, match="Not a directory"):
        await FileStore(tmp_path / "pipe" / "x").load()


async def test_a_huge_file_is_read_no_further_than_needed_to_refuse_it(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    raw = await FileStore(tmp_path / "huge").load()
    assert raw is not None
    assert len(raw) == MAX_CHECKPOINT_BYTES + 1
