"""The control plane that all fault tests share, and a run on it for each."""

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.faults.arena import Open, arena
from tests.faults.control_plane import ControlPlane, missing


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """etcd, API server and controller manager, started from the programs of the test cluster."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    made = ControlPlane(tmp_path_factory.mktemp("stage"))
    try:
        asyncio.run(made.start())
        yield made
    finally:
        made.stop()


@pytest.fixture
def run(stage: ControlPlane, tmp_path: Path, request: Any) -> Open:
    """Opens a run: `async with run() as (here, proxy, plan)`."""
    name = request.node.originalname.removeprefix("test_")
    return partial(arena, stage, tmp_path, name)
