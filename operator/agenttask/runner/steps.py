"""One step from its turn to its end: taken over, skipped, run, tried again, or gone through item by item.

The states are told in one place (`telling.py`), how much runs at once is decided in one place (`slots.py`); what is
left here is the order of things.
"""

import functools
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct

from agenttask.api.checkpoint import KeptFile
from agenttask.api.errors import AgentTaskError, Interrupted, NoTimeLeft
from agenttask.api.steps import Step
from agenttask.api.task import AgentTaskSpec
from agenttask.domain.compiling import Programs
from agenttask.domain.expressions import condition, items
from agenttask.domain.graph import StepGraph
from agenttask.domain.rendering import render
from agenttask.plugin.step import StepKind, StepOutput
from agenttask.runner.handing_on import Gathered, as_step_error, located, weight
from agenttask.runner.items import run_items
from agenttask.runner.keeping import Keeper
from agenttask.runner.lending import Lender
from agenttask.runner.log import item_name
from agenttask.runner.retrying import with_retries
from agenttask.runner.slots import Claim, Slots
from agenttask.runner.stepping import Prepared, off_loop_if_large, prepare, run_once, template_values
from agenttask.runner.telling import Telling

_SKIPPED = "`when` is false"


class Steps(Struct, kw_only=True):
    """The steps of one run; `outputs` are those of ended steps, by name."""

    spec: AgentTaskSpec
    graph: StepGraph
    kinds: Mapping[str, StepKind]
    values: Mapping[str, Any]
    """What all templates see: params, task, attempt."""
    lender: Lender
    slots: Slots
    telling: Telling
    keeper: Keeper
    rng: Callable[[], float]
    outputs: dict[str, StepOutput] = {}
    weights: dict[str, int] = {}

    async def run(self, index: int) -> None:
        """Bring one step to its end; its needs have ended.

        Raises:
            AgentTaskError: it failed, and the task with it.
        """
        needed = {self.graph.names[other]: self.outputs[self.graph.names[other]] for other in sorted(self.graph.ancestors(index))}
        step = self.spec.steps[index]
        with self.telling.of(index):
            try:
                taken = await self.keeper.take_over(index)
                if taken is not None:
                    self.telling.taken(index, taken)
                    output = taken.output
                else:
                    output = await OneStep(steps=self, index=index, step=step, needed=needed).run()
            except AgentTaskError as error:
                if not step.continue_on_error or isinstance(error, NoTimeLeft):
                    self.over(step, error)
                    raise
                self.telling.tolerated(index, error)
                output = StepOutput(error=as_step_error(error))
                self.keeper.step_ended(index, output)
        self.outputs[step.name], self.weights[step.name] = output, weight(output)

    def over(self, step: Step, error: AgentTaskError) -> None:
        """The task ends with this error: nothing starts from this very moment, before anybody is cancelled."""
        if not isinstance(error, NoTimeLeft):
            self.slots.close(Interrupted(f"cancelled because step {step.name!r} failed"))


class OneStep:
    """What is decided and kept for one step while it runs."""

    def __init__(self, *, steps: Steps, index: int, step: Step, needed: Mapping[str, StepOutput]) -> None:
        self._all = steps
        self._index = index
        self._step = step
        self._needed = needed
        self._values = template_values(steps.values, needed)
        self._programs = Programs()
        self._off_loop = off_loop_if_large(sum(steps.weights[name] for name in needed), steps.lender.threads)
        self._claim = Claim(index=index, kind=step.kind, priority=step.priority)

    async def run(self) -> StepOutput:
        """The step's output."""
        if self._step.when and not await self._evaluated(condition, "when", self._step.when):
            self._all.telling.skipped(self._index, _SKIPPED)
            self._all.keeper.step_skipped(self._index, _SKIPPED)
            return StepOutput()
        if self._step.for_each:
            return await self._each(list(await self._evaluated(items, "forEach", self._step.for_each)))
        output = await self._tries(self._values, about=f"step {self._step.name}", item=None)
        self._all.keeper.step_ended(self._index, output, await self._kept([self._values]))
        return output

    async def _each(self, found: list[Any]) -> StepOutput:
        keeper, telling, index = self._all.keeper, self._all.telling, self._index
        telling.begin(index)
        gathered = Gathered(len(found))
        for place, item in enumerate(found):
            if (taken := await keeper.take_over_item(index, place, item)) is not None:
                gathered.put(place, taken)
        telling.items_taken(index, gathered)

        async def one(place: int) -> None:
            values = self._item_values(found, place, gathered)
            try:
                output = await self._tries(values, about=item_name(self._step.name, place), item=(place, len(found)))
                keeper.item_ended(index, place, found[place], output, await self._kept([values]))
            except NoTimeLeft:
                raise
            except AgentTaskError as error:
                if not self._step.continue_on_error:
                    self._all.over(self._step, error)
                    raise located(error, f"item {place + 1} of {len(found)}") from error
                output = StepOutput(error=as_step_error(error))
            gathered.put(place, output)
            telling.items(index, gathered)

        left = [place for place in range(len(found)) if gathered[place] is None]
        if left:
            await run_items(left, parallelism=min(self._step.parallelism, len(left)), run=one)
        output = gathered.output()
        keeper.step_ended(index, output, await self._kept(self._item_values(found, place, gathered) for place in range(len(found))))
        return output

    def _item_values(self, found: list[Any], place: int, gathered: Gathered) -> dict[str, Any]:
        values = {**self._values, "item": found[place], "index": place}
        if self._step.parallelism == 1:
            before = gathered[place - 1] if place else None
            values["previous"] = None if before is None else before.as_template_value()
        return values

    async def _tries(self, values: Mapping[str, Any], *, about: str, item: tuple[int, int] | None) -> StepOutput:
        """The output of one step without items, or of one item."""
        step, steps, index = self._step, self._all, self._index
        kind = steps.kinds[step.kind]

        async def run(prepared: Prepared) -> StepOutput:
            async with steps.slots.hold(self._claim):
                steps.telling.begin(index, item, tries=True)
                return await run_once(
                    step, prepared, kind=kind, context=steps.lender.context(step.name, self._needed, about), crashed=self._crashed(about)
                )

        with steps.telling.of_item(index, item):
            return await with_retries(
                step.retry,
                prepare=lambda last: prepare(index, step, kind, {**values, "lastError": last}, self._programs, self._off_loop),
                run=run,
                failed=lambda tries, error, seconds: steps.telling.try_failed(index, item, tries, error, seconds),
                pause=steps.slots.pause,
                rng=steps.rng,
            )

    def _evaluated(self, function: Callable[..., Any], name: str, source: str) -> Awaitable[Any]:
        field = f"spec.steps[{self._index}].{name}"
        return self._off_loop(functools.partial(function, source, self._values, field=field))

    async def _kept(self, every: Iterable[Mapping[str, Any]]) -> tuple[KeptFile, ...] | None:
        """The files that `keepFiles` finds, rendered with each of these values."""
        if not self._step.keep_files:
            return None
        patterns = {
            render(pattern, values, field=f"spec.steps[{self._index}].keepFiles[{position}]", programs=self._programs): None
            for values in every
            for position, pattern in enumerate(self._step.keep_files)
        }
        return await self._all.keeper.keep_files(tuple(patterns))

    def _crashed(self, about: str) -> Callable[[Exception], None]:
        return lambda error: self._all.lender.log(about, "".join(traceback.format_exception(error)))
