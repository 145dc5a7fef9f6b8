"""The runner's settings: defaults < the container's environment < `spec.pod.env` < `spec.execution`.

`spec.pod.env` is read from the task document, so a task's variables need not be in the environment of the runner
itself: there, `PYTHONPATH` or `LD_PRELOAD` would put the task's code beside the model credentials.
"""

import re
from collections.abc import Mapping

from msgspec import Struct

from agenttask.api.constants import RUNNER_GRACE_SECONDS
from agenttask.api.errors import InvalidTask
from agenttask.api.task import AgentTaskSpec
from agenttask.domain.nearest import quoted
from agenttask.runner.gates import VARIABLE as GATES_VARIABLE
from agenttask.runner.http_settings import HttpSettings, read_http_settings

DEFAULT_CPU_THREADS = 4
DEFAULT_GPU_MEMORY_FRACTION = 0.8
DEVICE_TYPES = ("auto", "cpu", "cuda")
_LARGEST = 256
_MOST_PROCESSES = 64
_DIGITS = 9
"""Python takes its time with a number of a million digits."""
_FRACTION = re.compile(r"(0?\.[0-9]{1,6}|0|1(\.0{1,6})?)", re.ASCII)


class RunnerSettings(Struct, frozen=True, kw_only=True):
    """What one run honours; `max_workers` and `max_processes` None leave the size to the threading strategy."""

    device_type: str = "auto"
    """`auto` follows the device class that placement chose."""
    cpu_threads: int = DEFAULT_CPU_THREADS
    max_workers: int | None = None
    max_processes: int | None = None
    gpu_memory_fraction: float = DEFAULT_GPU_MEMORY_FRACTION
    """Of a GPU's memory, what the engines of this run may take together."""
    max_concurrent_steps: int = 10
    grace_seconds: int = RUNNER_GRACE_SECONDS
    """How long a stopped run may take to end; the pod's own grace period must be longer."""
    workspace_kept: bool = False
    """The workspace is a volume that outlives the attempt."""
    debug: bool = False
    """Look for slow callbacks, memory and leaks, and tell them in the log."""
    cpus: int = 1
    full_cpus: int = 1
    """Processors that the quota gives whole."""
    memory_bytes: int | None = None
    http: HttpSettings = HttpSettings()

    @property
    def patience_seconds(self) -> float:
        """How much of the grace running steps have to end by themselves; the rest is for cancelling them and for writing."""
        return self.grace_seconds / 3

    @property
    def torch_threads(self) -> int:
        """Threads for the tensor library: one processor stays with the event loop where there are several."""
        return max(1, min(self.cpu_threads, self.cpus - 1))

    @property
    def embedding_threads(self) -> int:
        """Threads of an embedding model: each computes in long pieces, beside which the event loop gets its turn.

        Only processors that the quota gives whole: more threads would use up a period's time early, and then all wait.
        """
        return max(1, min(self.cpu_threads, self.full_cpus))


def read_settings(
    spec: AgentTaskSpec, environ: Mapping[str, str], *, cpus: int, memory_bytes: int | None, full_cpus: int | None = None
) -> RunnerSettings:
    """The settings of one run; without `full_cpus` the quota gives all `cpus` whole.

    Raises:
        InvalidTask: a variable has a value that is none of its own.
    """
    merged = {**environ, **{variable.name: variable.value for variable in spec.pod.env}}
    device = merged.get("DEVICE_TYPE") or "auto"
    if device not in DEVICE_TYPES:
        raise InvalidTask("DEVICE_TYPE", f"{device!r} is none of {', '.join(DEVICE_TYPES)}")
    execution = spec.execution
    return RunnerSettings(
        device_type=device,
        cpu_threads=execution.cpu_threads or _number(merged, "CPU_THREADS") or DEFAULT_CPU_THREADS,
        max_workers=execution.max_workers or _number(merged, "MAX_WORKERS"),
        max_processes=execution.max_processes or _number(merged, "MAX_PROCESSES", largest=_MOST_PROCESSES),
        gpu_memory_fraction=_share(execution.gpu_memory_percent) or _fraction(merged, "GPU_MEMORY_FRACTION") or DEFAULT_GPU_MEMORY_FRACTION,
        max_concurrent_steps=execution.max_concurrent_steps,
        grace_seconds=_number(environ, "AGENTTASK_GRACE_SECONDS") or RUNNER_GRACE_SECONDS,
        workspace_kept=_switch(environ, "AGENTTASK_WORKSPACE_KEPT"),
        debug=_switch(merged, "AGENTTASK_DEBUG"),
        cpus=cpus,
        full_cpus=cpus if full_cpus is None else full_cpus,
        memory_bytes=memory_bytes,
        http=read_http_settings({**merged, GATES_VARIABLE: _gates(spec, environ)}, environ),
    )


def _gates(spec: AgentTaskSpec, environ: Mapping[str, str]) -> str:
    """The container's word is the last: what an operator took back no task switches on again."""
    given = [variable.value for variable in spec.pod.env if variable.name == GATES_VARIABLE]
    return ",".join([*given, environ.get(GATES_VARIABLE, "")])


def _number(environ: Mapping[str, str], name: str, *, largest: int = _LARGEST) -> int | None:
    raw = environ.get(name, "")
    if not raw:
        return None
    if not raw.isascii() or not raw.isdigit() or len(raw) > _DIGITS or not 1 <= int(raw) <= largest:
        raise InvalidTask(name, f"{quoted(raw)} is no whole number from 1 to {largest}")
    return int(raw)


def _switch(environ: Mapping[str, str], name: str) -> bool:
    raw = environ.get(name, "")
    if raw not in ("", "0", "1"):
        raise InvalidTask(name, f"{quoted(raw)} is neither 1 (on) nor 0 (off)")
    return raw == "1"


def _fraction(environ: Mapping[str, str], name: str) -> float | None:
    raw = environ.get(name, "")
    if not raw:
        return None
    if not _FRACTION.fullmatch(raw) or not float(raw) > 0:
        raise InvalidTask(name, f"{quoted(raw)} is no decimal above 0 and up to 1, as 0.8")
    return float(raw)


def _share(percent: int | None) -> float | None:
    return None if percent is None else percent / 100
