"""The control plane that all fault tests share, a run on it for each, and what the long form says of itself."""

import asyncio
import inspect
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.faults.arena import Open, arena
from tests.faults.control_plane import ControlPlane, missing
from tests.faults.side_by_side import ALONE, SideBySide
from tests.faults.soak import MINUTES, SEED, SEED_VARIABLE, SOAK

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[ControlPlane]:
    """etcd, API server and controller manager, started from the programs of the test cluster. In the short form its tests begin with it."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    made = ControlPlane(tmp_path_factory.mktemp("stage"))
    try:
        asyncio.run(made.start())
        if SOAK:
            yield made
            return
        together = SideBySide(shared(request.session.items, made, tmp_path_factory))
        request.config.pluginmanager.register(together, "side-by-side")
        try:
            yield made
        finally:
            together.stop()
    finally:
        made.stop()


def shared(
    items: Iterable[pytest.Item], stage: ControlPlane, folders: pytest.TempPathFactory
) -> Iterator[tuple[pytest.Function, dict[str, Any]]]:
    """The tests here that may run beside others, with what they take: none that wants what only pytest can give."""
    for item in items:
        if not isinstance(item, pytest.Function) or item.path.parent != HERE or item.get_closest_marker(ALONE) is not None:
            continue
        names = inspect.signature(item.function).parameters
        given = dict(item.callspec.params) if hasattr(item, "callspec") else {}
        if "run" in names and names.keys() <= {"run", "tmp_path", *given}:
            folder = folders.mktemp("run")
            yield item, given | {"run": opener(stage, folder, item)} | ({"tmp_path": folder} if "tmp_path" in names else {})


@pytest.fixture
def run(stage: ControlPlane, tmp_path: Path, request: Any) -> Open:
    """Opens a run: `async with run() as (here, proxy, plan)`."""
    return opener(stage, tmp_path, request.node)


def opener(stage: ControlPlane, folder: Path, item: pytest.Function) -> Open:
    """What `run` is for a test."""
    return partial(arena, stage, folder, item.originalname.removeprefix("test_"))


# ---- the long form


class TimeBox:
    """Once the minutes are over no further test begins, and the last line says how many did not."""

    def __init__(self, minutes: float) -> None:
        self._ends = time.monotonic() + 60 * minutes
        self._left: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """True: it is dealt with."""
        if time.monotonic() < self._ends:
            return None
        self._left.append(item.nodeid)
        return True

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """What was left out, and how to see a round again."""
        terminalreporter.section("soak")
        done = sum(len(terminalreporter.stats.get(kind, [])) for kind in ("passed", "failed", "error"))
        terminalreporter.write_line(f"seed {SEED}; {done} tests done, {len(self._left)} not begun after the time was over")


def pytest_configure(config: pytest.Config) -> None:
    """A marker, and in the long form an end."""
    config.addinivalue_line("markers", f"{ALONE}: a fault test that changes what all share, so that none may run beside it")
    if SOAK:
        config.pluginmanager.register(TimeBox(MINUTES or float("inf")), "time-box")


def pytest_report_header() -> str:
    """What it takes to see this run again."""
    return f"faults: seed {SEED} ({SEED_VARIABLE} replays it){', the long form' if SOAK else ''}"
