"""Tries: prepared anew with the last error, told before the pause; what preparing refuses is final."""

import pytest

from agenttask.api.errors import AgentTaskError, InvalidTask, RateLimited, StepFailed
from agenttask.api.steps import Backoff, StepRetry
from agenttask.plugin.step import StepOutput
from agenttask.runner.retrying import with_retries


class Tries:
    """What happened, in order; `errors` are raised in turn."""

    def __init__(self, *errors: AgentTaskError | None, unprepared: int | None = None) -> None:
        self.errors = list(errors)
        self.unprepared = unprepared
        self.told: list[str] = []

    async def prepare(self, last: str) -> str:
        if self.unprepared is not None and len([each for each in self.told if each.startswith("prepare")]) == self.unprepared:
            raise StepFailed("nothing to render")
        self.told.append(f"prepare {last!r}")
        return last

    async def run(self, prepared: str) -> StepOutput:
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        return StepOutput(text=prepared)

    def failed(self, tries: int, error: AgentTaskError, seconds: float) -> None:
        self.told.append(f"try {tries}: {error}")

    async def pause(self, seconds: float) -> None:
        self.told.append(f"pause {seconds:g}")

    async def __call__(self, retry: StepRetry | None) -> StepOutput:
        return await with_retries(retry, prepare=self.prepare, run=self.run, failed=self.failed, pause=self.pause, rng=lambda: 0.5)


RETRY = StepRetry(limit=2, backoff=Backoff(initial_seconds=4, factor=2, max_seconds=60))


async def test_a_try_after_a_failure_is_prepared_with_its_error() -> None:
    tries = Tries(StepFailed("one"), RateLimited("two", retry_after=9))
    assert (await tries(RETRY)).text == "two"
    assert tries.told == ["prepare ''", "try 1: one", "pause 3", "prepare 'one'", "try 2: two", "pause 9", "prepare 'two'"]


async def test_the_last_failure_is_raised_and_not_told_as_one_that_another_follows() -> None:
    tries = Tries(*(StepFailed(str(number)) for number in range(9)))
    with pytest.raises(StepFailed, match="2"):
        await tries(RETRY)
    assert tries.told[-1] == "prepare '1'"


async def test_without_retry_there_is_one_try() -> None:
    tries = Tries(StepFailed("one"))
    with pytest.raises(StepFailed, match="one"):
        await tries(None)


async def test_what_cannot_be_prepared_is_not_tried_again() -> None:
    tries = Tries(StepFailed("one"), unprepared=1)
    with pytest.raises(StepFailed, match="nothing to render"):
        await tries(RETRY)


async def test_what_can_never_succeed_is_not_tried_again() -> None:
    with pytest.raises(InvalidTask):
        await Tries(InvalidTask("f", "no"))(RETRY)
