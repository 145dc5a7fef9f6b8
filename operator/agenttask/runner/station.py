"""What a process lends to the run of a task, and what it gets back."""

import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from agenttask.api.errors import AgentTaskError
from agenttask.api.report import Report
from agenttask.plugin.llm import Usage
from agenttask.plugin.registry import Plugins
from agenttask.runner.checkpoint_store import CheckpointStore
from agenttask.runner.engines import Engines
from agenttask.runner.llm.endpoints import Endpoints
from agenttask.runner.observer import Observer
from agenttask.runner.places import Places
from agenttask.runner.settings import RunnerSettings
from agenttask.runner.slots import Slots
from agenttask.runner.termination import ReportChannel

if TYPE_CHECKING:
    import aiohttp

    from agenttask.runner.gateway.link import GatewayAccess
    from agenttask.runner.output_store import Objects

_PATH = "/usr/local/bin:/usr/bin:/bin"


class Station(Struct, frozen=True, kw_only=True):
    """What the process lends to a run."""

    plugins: Plugins
    settings: RunnerSettings
    places: Places
    scratch: Path
    """Where the run's own folder for HOME and TMPDIR is made."""
    credentials: Mapping[str, str]
    search_path: str = _PATH
    """PATH for commands."""
    accelerators: int = 0
    observer: Observer
    channel: ReportChannel
    log: Callable[[str, str], None]
    """A line: what it is about, and what happened."""
    endpoints: Endpoints | None = None
    """Breakers and limits that all tasks of the process share; None: this run has its own."""
    engines: Engines | None = None
    """Models that all tasks of the process share; None: this run has its own, and closes them."""
    slots: Slots | None = None
    """Of steps and items of all tasks of the process, besides each task's own; None: no such limit."""
    checkpoint: CheckpointStore | None = None
    """Where an earlier attempt has left what it finished, and this one leaves it; None: nowhere."""
    gateway: "GatewayAccess | None" = None
    """Where checkpoints, large outputs and live reports go in a cluster; a checkpoint only without one of `checkpoint`."""
    objects: "Objects | None" = None
    """The object store that a task document names, where it may be used."""
    version: str = "unknown"
    """Of the runner, for the checkpoint."""
    http_traces: "tuple[aiohttp.TraceConfig, ...]" = ()
    step_environment: Callable[[], Mapping[str, str]] = dict
    """What the trace adds to a step's environment; asked after `step_started`."""
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    rng: Callable[[], float] = random.random
    """From 0 up to 1; for pauses between tries."""


class Outcome(Struct, frozen=True, kw_only=True):
    """How the task ended: `error` None is success, and then `output` is there."""

    output: str | None
    error: AgentTaskError | None
    message: str | None
    """The error with the step at fault."""
    usage: Usage
    report: Report
