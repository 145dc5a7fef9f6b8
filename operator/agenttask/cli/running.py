"""`agenttask run`: the same steps as in a pod, on this machine; several tasks run beside each other in this one process.

Each task has its own workspace, connections, secrets and scratch folder, made when it starts and gone when it ends. What they
share is the limit on how many run at once, the one on steps, the breakers and limits of models, and the weights that are loaded here.
"""

import asyncio
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from agenttask.api.errors import DeadlineExceeded, StepFailed
from agenttask.api.report import Report
from agenttask.cli.checking import Checked
from agenttask.cli.looking import looked_at, summed
from agenttask.cli.preparing import LocalRun, RunOptions, prepared_runs
from agenttask.plugin.llm import Usage
from agenttask.plugin.registry import Plugins
from agenttask.runner.event_loop import new_event_loop
from agenttask.runner.run import TaskRun
from agenttask.runner.station import Outcome
from agenttask.runner.stop import Stop, leave_at_once
from agenttask.runner.turns import short_turns

STOPPED = "stopped from the terminal"


def run_local(
    checked: Checked, options: RunOptions, plugins: Plugins, credentials: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[Outcome, ...]:
    """Run the chosen tasks to their ends; progress goes to standard error. The outcomes are in the order of the files.

    Raises:
        InvalidFile: something that a task needs is not given.
    """
    with short_turns(), ExitStack() as stack, asyncio.Runner(loop_factory=new_event_loop) as runner:
        runs = prepared_runs(checked, options, plugins, credentials, environ, stack)
        return runner.run(execute(runs, max_tasks=options.max_tasks))


async def execute(runs: Sequence[LocalRun], *, max_tasks: int) -> tuple[Outcome, ...]:
    """All of them to their ends, or to that which SIGINT or SIGTERM makes."""
    together = Together(max_tasks)
    stop = Stop(
        grace_seconds=max(run.settings.grace_seconds for run in runs),
        ask=lambda: together.stop(STOPPED),
        give_up=lambda: None,
        leave=leave_at_once,
    )
    stop.listen(asyncio.get_running_loop())
    return await together.execute(runs)


class Together:
    """Tasks of one process, `max_tasks` at once; `stop` ends those that run and lets no other begin."""

    def __init__(self, max_tasks: int) -> None:
        self._gate = asyncio.Semaphore(max_tasks)
        self._running: set[TaskRun] = set()
        self._stopped: str | None = None

    def stop(self, why: str) -> None:
        """Cancel what runs."""
        self._stopped = why
        for task in self._running:
            task.stop(why)

    async def execute(self, runs: Sequence[LocalRun]) -> tuple[Outcome, ...]:
        """The outcomes in the order of the runs, begun in that order; the models that they share are closed."""
        async with looked_at(runs, lambda: summed([task.threading_state for task in self._running])):
            try:
                return tuple(await asyncio.gather(*(self._one(run) for run in runs)))
            finally:
                for engines in {run.station.engines for run in runs if run.station.engines is not None}:
                    await engines.aclose()

    async def _one(self, run: LocalRun) -> Outcome:
        async with self._gate, TaskRun(run.local.document, run.station) as task:
            self._running.add(task)
            try:
                if self._stopped is not None:
                    task.stop(self._stopped)
                return await _in_time(task, run.local.document.spec.active_deadline_seconds)
            except Exception as error:  # noqa: BLE001 - a plugin's mistake outside of a step; the other tasks go on
                run.say("task", "".join(traceback.format_exception(error)))
                message = f"the run broke with {type(error).__name__}: {error}"
                return Outcome(output=None, error=StepFailed(message), message=message, usage=Usage(), report=Report())
            finally:
                self._running.discard(task)


async def _in_time(task: TaskRun, seconds: int) -> Outcome:
    """The outcome; `activeDeadlineSeconds` holds here as it does in a cluster, where the controller keeps to it."""
    late = f"ran longer than activeDeadlineSeconds, {seconds} s"
    timer = asyncio.get_running_loop().call_later(seconds, task.stop, late, DeadlineExceeded(late))
    try:
        return await task.execute()
    finally:
        timer.cancel()
