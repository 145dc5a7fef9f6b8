"""Tries of one step or one item: again after a pause where that may help, as `retry` says."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from agenttask.api.errors import AgentTaskError
from agenttask.api.steps import StepRetry
from agenttask.domain.step_retry import pause_before_retry
from agenttask.plugin.step import StepOutput

P = TypeVar("P")


async def with_retries(
    retry: StepRetry | None,
    *,
    prepare: Callable[[str], Awaitable[P]],
    run: Callable[[P], Awaitable[StepOutput]],
    failed: Callable[[int, AgentTaskError, float], None],
    pause: Callable[[float], Awaitable[None]],
    rng: Callable[[], float],
) -> StepOutput:
    """The output of the first try that succeeds.

    Args:
        retry: how often; None is one try.
        prepare: renders what the next try does, given the last one's error ('' on the first). What fails here fails for good: the
            same values would render the same.
        run: does it.
        failed: told of a failed try that another one follows: its number, its error, the seconds until then.
        pause: waits.
        rng: from 0 up to 1.

    Raises:
        AgentTaskError: the last try's.
    """
    last, tries = "", 0
    while True:
        tries += 1
        prepared = await prepare(last)
        try:
            return await run(prepared)
        except AgentTaskError as error:
            seconds = pause_before_retry(retry, tries, error, rng)
            if seconds is None:
                raise
            failed(tries, error, seconds)
            last = str(error)
        await pause(seconds)
