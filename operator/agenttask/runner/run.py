"""One run of one task: everything that belongs to the task is made here, and ended here.

The process may run many tasks one after another: clients, engines, connections, threads, scratch folder and secrets are
the run's own and leave with it.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from agenttask.api.constants import MAX_RENDERED_BYTES
from agenttask.api.document import TaskDocument
from agenttask.api.errors import AgentTaskError, Interrupted, NoTimeLeft, OutputTooLarge
from agenttask.api.report import Report
from agenttask.domain.graph import StepGraph
from agenttask.domain.validation import validate
from agenttask.plugin.threading import TellsSizes, ThreadingLimits, ThreadingState, ThreadingStrategy
from agenttask.runner.checkpoint import Checkpointing, open_checkpoint
from agenttask.runner.checkpoint_writer import Pace
from agenttask.runner.ending import Ending
from agenttask.runner.lending import Lender
from agenttask.runner.locks import PathLocks
from agenttask.runner.record import Record
from agenttask.runner.run_models import run_models
from agenttask.runner.schedule import run_in_order
from agenttask.runner.scratch import scratch_folder
from agenttask.runner.session import SharedSession
from agenttask.runner.slots import Slots
from agenttask.runner.station import Outcome as Outcome
from agenttask.runner.station import Station as Station
from agenttask.runner.steps import Steps
from agenttask.runner.task_output import task_output
from agenttask.runner.telling import Telling

if TYPE_CHECKING:
    from agenttask.runner.gateway.link import GatewayLink
    from agenttask.runner.output_store import OutputStore

_DRAIN_SECONDS = 5.0


class TaskRun:
    """`async with TaskRun(document, station) as run: outcome = await run.execute()`."""

    def __init__(self, document: TaskDocument, station: Station) -> None:
        self._document = document
        self._station = station
        self._record = Record(document.attempt, [step.name for step in document.spec.steps], clock=station.clock, now=station.now())
        self._closing = contextlib.AsyncExitStack()
        by_kind = document.spec.execution.max_concurrent_by_kind
        self._slots = Slots(station.settings.max_concurrent_steps, by_kind, within=station.slots, name=document.task.name)
        self._ending = Ending(close=self._start_no_more, halt=self._record.halt)
        self._stopped_with: AgentTaskError | None = None
        self._handing_over = False
        self._delivered: Report | None = None
        self._keeper: Checkpointing | None = None
        self._threads: ThreadingStrategy | None = None
        self._locks = PathLocks()
        self._session = SharedSession(station.http_traces, settings=station.settings.http)
        self._models = run_models(document, station, self._session, close_with=self._close_with)
        self._gateway = self._open_gateway()
        self._store = self._open_store()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._closing.__aexit__(kind, error, trace)

    def stop(self, why: str, error: AgentTaskError | None = None) -> None:
        """Cancel what runs; `execute` then returns an outcome that says so, or fails with `error`."""
        self._stopped_with = self._stopped_with or error
        self._ending.stop(why)

    def start_no_more(self, why: NoTimeLeft) -> None:
        """No try of a step or item starts any more; what runs may end, and `execute` then returns this error."""
        self._ending.start_no_more(why)

    def stop_within(self, why: str, seconds: float) -> None:
        """Start no more, and cancel what still runs after `seconds`; on the loop."""
        self._ending.stop_within(why, seconds)

    @property
    def threading_state(self) -> ThreadingState:
        """What the threading strategy is doing now."""
        return ThreadingState() if self._threads is None else self._threads.state

    def interrupted(self) -> Report:
        """The report of a run that has no time left to end by itself; the last one, where that was written and only the closing is left."""
        if self._delivered is not None:
            return self._delivered
        late = "its output was not handed over in time" if self._handing_over else "its steps did not end in time"
        if self._gateway is not None and self._gateway.waits_for:
            late = f"{late}: {self._gateway.waits_for}"
        self._record.error = self._record.error or Interrupted(f"{self._record.halted}; {late}")
        return self._record.report(self._models.usage, self._models.cost_text, done=True)

    async def execute(self) -> Outcome:
        """Run all steps, and leave the last report."""
        record, station = self._record, self._station
        work = asyncio.create_task(self._steps(), name="steps")
        self._ending.begin(work, soft_deadline_seconds=self._document.spec.soft_deadline_seconds, elapsed=record.seconds())
        if self._gateway is not None:
            self._gateway.live.begin(elapsed=record.seconds())
        try:
            await asyncio.wait({work})
        finally:
            self._ending.over()
            if self._gateway is not None:
                await self._gateway.live.over()
        output = self._verdict(work)
        for index in record.untouched():
            why = record.halted or "the task was refused"
            record.skipped(index, why)
            station.observer.step_skipped(index, self._document.spec.steps[index], why=why)
        report = await self._deliver(output)
        if record.error is None and self._keeper is not None:
            await self._keeper.succeeded()
        station.observer.run_ended(self._document, seconds=record.seconds(), usage=self._models.usage, error=record.error)
        return Outcome(
            output=output if record.error is None else None,
            error=record.error,
            message=record.message(),
            usage=self._models.usage,
            report=report,
        )

    def _start_no_more(self, why: NoTimeLeft) -> None:
        self._record.close(str(why))
        self._slots.close(why)
        if self._keeper is not None:
            self._keeper.hurry()

    async def _checkpointing(self, graph: StepGraph) -> Checkpointing:
        station, store, pace = self._station, self._station.checkpoint, Pace()
        if store is None and self._gateway is not None:
            store, pace = self._gateway.store, self._gateway.pace
        self._keeper = await open_checkpoint(
            self._document,
            graph,
            station.places,
            store,
            runner=station.version,
            workspace_kept=station.settings.workspace_kept,
            log=station.log,
            pace=pace,
            elapsed=self._record.seconds(),
        )
        self._close_with("checkpoint", self._keeper.aclose)
        return self._keeper

    def _verdict(self, work: asyncio.Task[str]) -> str | None:
        """The output, or None with the record's error set. An error that is none of ours is raised."""
        if work.cancelled():
            self._record.error = self._record.error or self._stopped_with or Interrupted(self._record.halted or "the run was cancelled")
        elif isinstance(error := work.exception(), AgentTaskError):
            self._record.error = self._record.error or error
        else:
            return work.result()
        return None

    async def _deliver(self, output: str | None) -> Report:
        """The last report, as it stands in the channel."""
        report = self._record.report(self._models.usage, self._models.cost_text, done=True, output=output)
        write = self._station.channel.write
        try:
            if output is not None and len(output) > MAX_RENDERED_BYTES:
                await asyncio.to_thread(write, report)  # where it is too large it is counted
            else:
                write(report)
        except OutputTooLarge as too_large:
            from agenttask.runner.output_handover import hand_over  # few tasks need it

            assert output is not None
            assert self._keeper is not None
            self._handing_over = True
            found = await hand_over(
                await asyncio.to_thread(output.encode),
                too_large,
                gateway=self._gateway,
                make_room=self._keeper.shrink,
                store=self._store,
                log=self._station.log,
            )
            self._record.error = found.error
            report = self._record.report(self._models.usage, self._models.cost_text, done=True)
            report = msgspec.structs.replace(report, output_stored=found.in_record, output_object=found.at)
            self._station.channel.write(report)
        self._delivered = report
        return report

    async def _steps(self) -> str:
        """The task's output."""
        spec, station = self._document.spec, self._station
        graph = validate(spec, step_kinds=station.plugins.step_kinds.names)
        scratch = self._closing.enter_context(scratch_folder(station.scratch))
        strategy = station.plugins.threading_strategies.choose(spec.execution.threading)
        limits = ThreadingLimits(
            cpus=station.settings.cpus, max_workers=station.settings.max_workers, max_processes=station.settings.max_processes
        )
        self._threads = threads = strategy(limits)
        self._close_with("threads", lambda: threads.drain(_DRAIN_SECONDS))
        kinds = {name: station.plugins.step_kinds.choose(name)() for name in {step.kind for step in spec.steps}}
        steps = Steps(
            spec=spec,
            graph=graph,
            kinds=kinds,
            values=self._values(),
            lender=self._lender(threads, scratch),
            slots=self._slots,
            telling=Telling(spec.steps, record=self._record, report=self._report, observer=station.observer, clock=station.clock),
            keeper=await self._checkpointing(graph),
            rng=station.rng,
        )
        station.observer.run_started(self._document)
        if isinstance(threads, TellsSizes):
            station.log("threads", f"{spec.execution.threading}: at most {threads.sizes()}")
        await run_in_order(graph, run=steps.run, halt=self._record.halt)
        return await task_output(spec, steps, self._values(), threads=threads, most_bytes=self._store.max_bytes if self._store else 0)

    def _values(self) -> dict[str, Any]:
        task = self._document.task
        return {
            "params": self._document.spec.params,
            "task": {"name": task.name, "namespace": task.namespace, "uid": task.uid},
            "attempt": self._document.attempt,
        }

    def _lender(self, threads: ThreadingStrategy, scratch: Path) -> Lender:
        station = self._station
        return Lender(
            document=self._document,
            places=station.places,
            scratch=scratch,
            search_path=station.search_path,
            credentials=station.credentials,
            step_environment=station.step_environment,
            log=station.log,
            models=self._models,
            locks=self._locks,
            session=self._session,
            threads=threads,
        )

    def _report(self) -> None:
        self._station.channel.write(self._record.report(self._models.usage, self._models.cost_text))

    def _open_gateway(self) -> "GatewayLink | None":
        access = self._station.gateway
        if access is None:
            return None
        link = access.open(
            snapshot=lambda: self._record.report(self._models.usage, self._models.cost_text),
            models=self._models,
            asks=bool(self._document.models),
            fenced=lambda error: self.stop(str(error), error),
        )
        self._close_with("gateway", link.aclose)
        return link

    def _open_store(self) -> "OutputStore | None":
        place, objects = self._document.output_store, self._station.objects
        if place is None or objects is None:
            return None
        from agenttask.runner.output_store import OutputStore

        return OutputStore(self._document, place, objects)

    def _close_with(self, what: str, close: Callable[[], Awaitable[None]]) -> None:
        """Close it when the run ends; the verdict stands whatever closing brings."""

        async def closed() -> None:
            try:
                await close()
            except Exception as error:  # noqa: BLE001 - a plugin's own; the task's outcome is written already
                self._station.log("closing", f"{what}: {type(error).__name__}: {error}")

        self._closing.push_async_callback(closed)
