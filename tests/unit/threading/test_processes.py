"""Functions in processes: clean, bounded, killed with their caller and with the runner, tried again once."""

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop
from tests.fakes import computing

from agenttask.api.errors import Interrupted, InvalidTask, StepFailed
from agenttask.plugin.threading import ThreadingLimits, ThreadingState, WorkKind
from agenttask_threading import child
from agenttask_threading.processes import ProcessPool, process_count
from agenttask_threading.split import Hybrid, Processes

ROOT = Path(__file__).parents[3]


@pytest.fixture
async def pool() -> AsyncIterator[ProcessPool]:
    made = ProcessPool(2)
    yield made
    await made.drain(5)


async def until(met: Callable[[], object]) -> None:
    """Wait for what another process does, which sets no event here."""
    async with asyncio.timeout(60):
        while not met():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.01)


def written(path: Path) -> bool:
    return path.exists() and path.read_text() != ""


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def workers() -> int:
    """Processes of pools below this one, zombies too."""
    return int(subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "pid="], capture_output=True, text=True).stdout.count("\n")) - 1


async def test_a_function_runs_in_another_process_that_is_used_again(pool: ProcessPool):
    first, second = await pool.run(computing.process), await pool.run(computing.process)
    assert first == second != os.getpid()


async def test_two_run_at_once_and_the_rest_waits(pool: ProcessPool, tmp_path: Path):
    paths, go = [tmp_path / name for name in "abc"], tmp_path / "go"
    calls = [asyncio.create_task(pool.run(computing.say_and_wait, str(path), str(go))) for path in paths]
    await until(lambda: all(map(written, paths[:2])))
    assert (pool.running, pool.queued, paths[2].exists()) == (2, 1, False)
    go.touch()
    assert await asyncio.gather(*calls) == ["waited"] * 3
    assert len({path.read_text() for path in paths}) == 2
    assert (pool.running, pool.queued) == (0, 0)


async def test_large_arguments_pass_and_the_loop_goes_on(pool: ProcessPool):
    assert await pool.run(computing.size, "x" * 20_000_000) == 20_000_000


async def test_an_exception_has_the_other_process_s_traceback_as_its_cause(pool: ProcessPool):
    with pytest.raises(KeyError) as caught:
        await pool.run(computing.fail)
    assert "in fail" in str(caught.value.__cause__)


async def test_an_error_of_ours_comes_back_as_it_was(pool: ProcessPool):
    with pytest.raises(InvalidTask) as caught:
        await pool.run(computing.fail_typed)
    assert (str(caught.value), caught.value.field) == ("spec.steps[0]: no good", "spec.steps[0]")


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        pytest.param(computing.fail_unsendable, RuntimeError, "Unsendable: one and two", id="exception"),
        pytest.param(computing.lock, TypeError, "its result cannot be sent from another process: cannot pickle", id="result"),
        pytest.param(computing.leave, RuntimeError, "the function raised SystemExit: 3", id="exit"),
        pytest.param(computing.import_torch, ModuleNotFoundError, "import of torch halted", id="torch"),
    ],
)
async def test_what_cannot_come_back_is_told(pool: ProcessPool, function: Callable[[], object], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        await pool.run(function)
    assert await pool.run(computing.square, 3) == 9


def closure() -> Callable[[], int]:
    number = 3

    def inner() -> int:
        return number

    return inner


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        pytest.param(lambda: 1, "it is a lambda", id="lambda"),
        pytest.param(closure(), "it is defined inside of another function", id="closure"),
        pytest.param(functools.partial(closure(), 1), "it is defined inside of another function", id="partial of one"),
        pytest.param("text".upper, "it is a method bound to an object", id="bound"),
        pytest.param(object(), "it has no name", id="no function"),
    ],
)
async def test_a_function_that_no_other_process_can_find_is_refused(pool: ProcessPool, function: Callable[[], int], problem: str):
    with pytest.raises(TypeError, match=f"cannot run in another process: {problem}; move it to the top level of a module"):
        await pool.run(function)


async def test_a_function_that_is_not_where_its_name_says_is_refused(pool: ProcessPool, monkeypatch: pytest.MonkeyPatch):
    before = computing.square
    monkeypatch.setattr(computing, "square", computing.size)
    with pytest.raises(TypeError, match=r"tests.fakes.computing.square is another object by now"):
        await pool.run(before, 1)
    monkeypatch.delattr(computing, "square")
    with pytest.raises(TypeError, match=r"tests.fakes.computing has no square"):
        await pool.run(before, 1)
    monkeypatch.setattr(before, "__module__", "__main__")
    with pytest.raises(TypeError, match="main file"):
        await pool.run(before, 1)


async def test_arguments_that_cannot_be_sent_are_refused(pool: ProcessPool):
    with pytest.raises(TypeError, match=r"the arguments of size cannot be sent to another process: cannot pickle .*; pass plain values"):
        await pool.run(computing.size, computing.lock())


async def test_a_partial_of_a_named_function_is_fine(pool: ProcessPool):
    assert await pool.run(functools.partial(computing.square, 4)) == 16


async def test_its_environment_has_no_credential(pool: ProcessPool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret")
    monkeypatch.setenv("LD_PRELOAD", "")
    found = await pool.run(computing.environment)
    assert "s3cret" not in found.values()
    assert set(found) <= {*child._KEPT, *child._ONE_THREAD, "PYTHONPATH", "LC_CTYPE"}
    assert found["OMP_NUM_THREADS"] == "1"


async def test_its_memory_is_closed_to_the_user_s_other_processes(pool: ProcessPool):
    assert await pool.run(computing.dumpable) is False


async def test_it_imports_little_before_the_first_function(pool: ProcessPool):
    loaded = await pool.run(computing.modules)
    assert not {"torch.nn", "kopf", "aiohttp", "asyncio", "agenttask_threading"} & set(loaded)


async def test_a_killed_process_is_replaced_and_the_function_tried_again(pool: ProcessPool, tmp_path: Path):
    others = asyncio.gather(*(pool.run(computing.square, number) for number in range(8)))
    assert await pool.run(computing.die_once, str(tmp_path / "died")) == "survived"
    assert await others == [number * number for number in range(8)]


async def test_one_whose_process_dies_twice_fails_alone(pool: ProcessPool, tmp_path: Path):
    with pytest.raises(StepFailed, match=r"^die: its process was killed by SIGKILL, and that of a second try was killed by SIGKILL; if it"):
        await pool.run(computing.die, str(tmp_path / "deaths"))
    assert (tmp_path / "deaths").read_text() == "xx"
    assert await pool.run(computing.square, 3) == 9


@pytest.mark.parametrize(("code", "how"), [(3, "exited 3"), (-11, "was killed by SIGSEGV"), (-40, "was killed by signal 40")])
async def test_how_a_process_ended_is_told(pool: ProcessPool, code: int, how: str):
    with pytest.raises(StepFailed, match=f"leave_at_once: its process {how}, and that of a second try {how}"):
        await pool.run(computing.leave_at_once, code)


async def test_an_idle_process_that_died_is_replaced(pool: ProcessPool):
    pid = await pool.run(computing.process)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not lives(pid))
    assert await pool.run(computing.process) != pid


async def test_a_cancelled_caller_ends_its_function(pool: ProcessPool, tmp_path: Path):
    call = asyncio.create_task(pool.run(computing.say_and_sleep, str(tmp_path / "pid"), 600))
    await until(lambda: written(tmp_path / "pid"))
    pid = int((tmp_path / "pid").read_text())
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: not lives(pid))
    assert (pool.running, await pool.run(computing.square, 3)) == (0, 9)


async def test_a_cancelled_waiter_leaves_the_queue_and_its_turn_goes_on(tmp_path: Path):
    pool, go = ProcessPool(1), tmp_path / "go"
    first = asyncio.create_task(pool.run(computing.say_and_wait, str(tmp_path / "first"), str(go)))
    waiting = [asyncio.create_task(pool.run(computing.square, number)) for number in (2, 3, 4)]
    await until(lambda: pool.queued == 3)
    waiting[1].cancel()
    await asyncio.sleep(0)
    assert pool.queued == 2
    turn = pool._waiting[0]
    turn.add_done_callback(lambda _: waiting[0].cancel())  # cancelled in the moment in which the turn is given
    go.touch()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting[0]
    assert await first == "waited"
    assert await waiting[2] == 16
    await pool.drain(5)


async def test_draining_waits_drops_and_kills(tmp_path: Path):
    pool, go = ProcessPool(1), tmp_path / "go"
    running = asyncio.create_task(pool.run(computing.say_and_wait, str(tmp_path / "pid"), str(go)))
    waiting = asyncio.create_task(pool.run(computing.square, 2))
    await until(lambda: written(tmp_path / "pid"))
    draining = asyncio.create_task(pool.drain(60))
    with pytest.raises(Interrupted, match="square did not run: the runner is stopping"):
        await waiting
    assert not draining.done()
    go.touch()
    await draining
    assert await running == "waited"
    assert not lives(int((tmp_path / "pid").read_text()))
    with pytest.raises(Interrupted, match="square did not run"):
        await pool.run(computing.square, 2)


async def test_draining_kills_what_does_not_end_in_time(tmp_path: Path):
    pool = ProcessPool(1)
    stuck = asyncio.create_task(pool.run(computing.say_and_sleep, str(tmp_path / "pid"), 600))
    await until(lambda: written(tmp_path / "pid"))
    before = workers()
    await pool.drain(0.05)
    with pytest.raises(Interrupted, match="say_and_sleep did not end in time: the runner is stopping"):
        await stuck
    assert workers() == before - 1


async def test_a_process_that_cannot_be_started_is_a_typed_error(pool: ProcessPool, monkeypatch: pytest.MonkeyPatch):
    def full(*_arguments: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(child.socket, "socketpair", full)
    with pytest.raises(StepFailed, match="square: no process can be started: Too many open files"):
        await pool.run(computing.square, 2)


async def test_a_process_whose_socket_cannot_be_used_is_ended(pool: ProcessPool, monkeypatch: pytest.MonkeyPatch):
    async def full(**_arguments: object) -> None:
        raise OSError(24, "Too many open files")

    before = workers()
    monkeypatch.setattr(child.asyncio, "open_unix_connection", full)
    with pytest.raises(StepFailed, match="Too many open files"):
        await pool.run(computing.square, 2)
    assert workers() == before


_KILLED = """
import asyncio, os, sys
from pathlib import Path
from tests.fakes.computing import say_and_sleep
from agenttask_threading.processes import ProcessPool

async def main():
    call = asyncio.create_task(ProcessPool(1).run(say_and_sleep, sys.argv[1], 600))
    while not Path(sys.argv[1]).exists() or not Path(sys.argv[1]).read_text():
        await asyncio.sleep(0.01)
    os._exit(0) if sys.argv[2] == "exit" else os.kill(os.getpid(), 9)

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["exit", "kill"])
async def test_no_process_outlives_a_runner_that_is_gone_at_once(tmp_path: Path, how: str):
    path = os.pathsep.join(str(ROOT / folder) for folder in ("operator", "plugins", "."))
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "pid"), how]
    await asyncio.to_thread(subprocess.run, command, env={**os.environ, "PYTHONPATH": path}, check=False)
    pid = int((tmp_path / "pid").read_text())
    await until(lambda: not lives(pid))


def test_it_works_on_uvloop(tmp_path: Path):
    async def scenario() -> None:
        pool = ProcessPool(1)
        assert await pool.run(computing.die_once, str(tmp_path / "died")) == "survived"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await pool.run(computing.say_and_sleep, str(tmp_path / "pid"), 600)
        assert await pool.run(computing.size, "x" * 3_000_000) == 3_000_000
        await pool.drain(5)

    uvloop.run(scenario())


@pytest.mark.parametrize(
    ("limits", "processes"),
    [
        pytest.param(ThreadingLimits(cpus=2), 2, id="two cpus"),
        pytest.param(ThreadingLimits(cpus=64), 4, id="many cpus"),
        pytest.param(ThreadingLimits(cpus=2, max_processes=7), 7, id="as the task says"),
    ],
)
def test_the_number_of_processes_follows_the_limits(limits: ThreadingLimits, processes: int):
    assert process_count(limits) == processes


@pytest.mark.parametrize("strategy", [Processes, Hybrid])
async def test_only_python_code_that_computes_goes_to_processes(strategy: type[Processes | Hybrid], tmp_path: Path):
    made = strategy(ThreadingLimits(max_processes=1))
    kinds = [WorkKind.BLOCKING_IO, WorkKind.NATIVE_CPU, WorkKind.PYTHON_CPU]
    here = [await made.run(kind, computing.process) == os.getpid() for kind in kinds]
    assert here == [True, True, False]
    go = tmp_path / "go"
    calls = [asyncio.create_task(made.run(WorkKind.PYTHON_CPU, computing.say_and_wait, str(tmp_path / name), str(go))) for name in "ab"]
    await until(lambda: written(tmp_path / "a"))
    assert made.state == ThreadingState(queued=1, threads=0, processes=1)
    go.touch()
    await asyncio.gather(*calls)
    with pytest.raises(TypeError, match="<lambda> cannot run in another process"):
        await made.run(WorkKind.PYTHON_CPU, lambda: 1)
    started = time.monotonic()
    await made.drain(60)
    assert time.monotonic() - started < 30


async def test_hybrid_guesses_by_the_name_with_one_warning_for_each():
    hybrid = Hybrid(ThreadingLimits(max_processes=1))
    with pytest.warns(DeprecationWarning, match="generate_answer runs as python-cpu because of its name; declare what it does"):
        _, pid = await hybrid.run(None, computing.generate_answer, 1)
    with pytest.warns(DeprecationWarning, match="look_up runs as blocking-io because of its name"):
        _, other = await hybrid.run(None, computing.look_up, 1)
    assert (pid != os.getpid(), other) == (True, os.getpid())
    assert await hybrid.run(None, computing.generate_answer, 2) == (2, pid)  # a second warning would be an error
    await hybrid.drain(5)


async def test_hybrid_guesses_no_process_for_what_cannot_be_sent_there():
    def compute() -> int:
        return os.getpid()

    async def process() -> str:
        return "on the loop"

    hybrid = Hybrid(ThreadingLimits())
    with pytest.warns(DeprecationWarning, match="compute runs as blocking-io"):
        assert await hybrid.run(None, compute) == os.getpid()
    assert await hybrid.run(None, process) == "on the loop"


async def test_process_takes_no_function_without_a_kind():
    with pytest.raises(TypeError, match="square: None is no kind of work; declare one of async-io"):
        await Processes(ThreadingLimits()).run(None, computing.square, 2)  # type: ignore[arg-type]  # what a plugin may do all the same
