"""An engine in a process of its own, over the real child with an engine of words: calls, deaths, restarts, ends. No torch."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agenttask.api.errors import Interrupted, ModelRejected, ModelUnavailable, OutOfMemory
from agenttask.api.model import LocalModel
from agenttask.plugin.engine import EngineConfig, Sampling
from agenttask.plugin.llm import Message
from agenttask_models import isolated
from agenttask_models.isolated import IsolatedEngine

ROOT = Path(__file__).parents[3]
COMMAND = (sys.executable, "-m", "tests.fakes.model_process")
ENVIRON = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "operator", ROOT / "plugins"))),
    "AGENTTASK_CREDENTIAL_0": "secret",
}


async def start(path="/m", lines=None, command=COMMAND) -> IsolatedEngine:
    log = (lambda _line: None) if lines is None else lines.append
    config = EngineConfig(local=LocalModel(path=path, isolation="Process"), threads=3, log=log)
    return await IsolatedEngine.start("m", "cpu", config, ENVIRON, command=command)


@pytest.fixture
async def engine():
    lines = []
    made = await start(lines=lines)
    made.lines = lines
    yield made
    await made.aclose()


def ask(engine, prompt):
    return engine.generate((Message(role="user", content=prompt),), Sampling(max_tokens=5))


async def answer(engine, prompt):
    return "".join([chunk.text async for chunk in ask(engine, prompt)])


async def test_calls_run_beside_each_other(engine):
    waiting = ask(engine, "wait")
    assert (await anext(waiting)).text == "soon"
    assert await answer(engine, "one two") == "one two "
    vectors = (await engine.embed(["a", "bcd"])).vectors
    assert [list(vector) for vector in vectors] == [[1.0, 0.5], [3.0, 0.5]]
    assert list(await engine.count_tokens(["a", "bcd"])) == [1, 3]
    assert (engine.device, engine.memory_bytes, engine.failure) == ("cpu", 42, None)
    await waiting.aclose()


async def test_leaving_cancels_over_there(engine):
    waiting = ask(engine, "wait")
    await anext(waiting)
    assert await answer(engine, "waiting") == "1 "
    await waiting.aclose()
    embedding = asyncio.ensure_future(engine.embed(["wait"]))
    await asyncio.sleep(0.01)
    embedding.cancel()
    async with asyncio.timeout(30):
        while await answer(engine, "waiting") != "0 ":  # noqa: ASYNC110 - another process sees it
            await asyncio.sleep(0.01)


async def test_errors_come_as_they_are(engine):
    with pytest.raises(ModelRejected, match="not that"):
        await answer(engine, "refuse")
    with pytest.raises(ModelUnavailable, match="ZeroDivisionError: by zero"):
        await answer(engine, "break")
    assert await answer(engine, "well") == "well "


async def test_what_is_logged_over_there_is_logged_here(engine):
    await answer(engine, "anything")  # what was said before is here then
    assert engine.lines == ["m on cpu, Thread"]


async def test_it_sees_what_it_needs_and_no_credential(engine):
    names = (await answer(engine, "env")).split()
    assert {"PATH", "OMP_NUM_THREADS"} <= set(names)
    assert not any(name.startswith("AGENTTASK_CREDENTIAL") for name in names)


async def test_a_death_fails_what_runs_and_the_next_call_starts_it_anew_twice(engine):
    for _ in range(2):
        calls = [ask(engine, "wait") for _ in range(2)]
        for call in calls:
            await anext(call)
        with pytest.raises(ModelUnavailable, match=r"the process of model 'm' ended by SIGSEGV$"):
            await answer(engine, "die")
        for call in calls:
            with pytest.raises(ModelUnavailable, match="SIGSEGV"):
                await anext(call)
        assert await answer(engine, "here again") == "here again "
    call = ask(engine, "wait")
    await anext(call)
    os.kill(engine.pid, signal.SIGKILL)
    with pytest.raises(ModelUnavailable, match="SIGKILL; the kernel kills so where memory is short"):
        await anext(call)
    for _ in range(2):
        with pytest.raises(ModelUnavailable, match="died 3 times; it is not started again"):
            await answer(engine, "x")
    assert [line for line in engine.lines if "again" in line] == [
        "the process of model 'm' is started again (1 of 2)",
        "the process of model 'm' is started again (2 of 2)",
    ]


async def test_a_lost_device_ends_the_process_and_a_new_one_has_it_back(engine):
    pid = engine.pid
    with pytest.raises(ModelUnavailable, match="illegal memory access"):
        await answer(engine, "lost")
    async with asyncio.timeout(30):
        while engine.pid is not None:  # noqa: ASYNC110 - another process ends
            await asyncio.sleep(0.01)
    assert await answer(engine, "back") == "back "
    assert engine.pid != pid


@pytest.mark.parametrize(
    ("path", "kind", "problem"),
    [("/full", OutOfMemory, "too large"), ("/die", ModelUnavailable, "ended with exit code 3")],
    ids=["typed", "died"],
)
async def test_a_load_that_fails_is_told(path, kind, problem):
    with pytest.raises(kind, match=problem):
        await start(path)


async def test_what_libraries_print_disturbs_nobody():
    engine = await start("/babble")
    assert await answer(engine, "fine") == "fine "
    await engine.aclose()


async def test_a_process_that_talks_nonsense_is_ended(tmp_path):
    script = tmp_path / "babble.py"
    script.write_text(_babble([str(ROOT / "operator"), str(ROOT / "plugins")]))
    engine = await start(command=(sys.executable, str(script)))
    with pytest.raises(ModelUnavailable, match="talks nonsense"):
        await answer(engine, "x" * 400)
    await engine.aclose()


def _babble(paths: list[str]) -> str:
    return f"""
import sys, time
sys.path[:0] = {paths!r}
from agenttask.plugin.llm import Chunk
from agenttask_models.wire import Log, Piece, Ready, frame
out = sys.stdout.buffer
for each in (Piece(call=9, chunk=Chunk()), Log(message="late"), Ready(device="cpu", memory_bytes=0), Ready(device="cpu", memory_bytes=0)):
    out.write(frame(each))
out.flush()
sys.stdin.buffer.read(400)
out.write(b"\\0\\0\\0\\2??")
out.flush()
time.sleep(60)
"""


async def test_closing_interrupts_what_runs_and_ends_the_process(engine):
    call, pid = ask(engine, "wait"), engine.pid
    await anext(call)
    await engine.aclose()
    with pytest.raises(Interrupted):
        await anext(call)
    with pytest.raises(Interrupted):
        await answer(engine, "late")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_process_that_does_not_end_is_killed(engine, monkeypatch):
    monkeypatch.setattr(isolated, "_STOP_SECONDS", 0.05)
    os.kill(engine.pid, signal.SIGSTOP)
    await engine.aclose()
    assert engine.pid is None


def test_it_ends_with_its_parent():
    code = (
        "import asyncio, os, sys, time\nfrom tests.unit.models.test_isolated import start\n"
        "async def main():\n    engine = await start()\n    print(engine.pid, flush=True)\n    time.sleep(60)\nasyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT, env=ENVIRON, text=True)
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
    finally:
        parent.kill()
        parent.communicate()
    deadline = time.monotonic() + 60
    while _runs(child):
        assert time.monotonic() < deadline, f"process {child} outlived its parent"
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
