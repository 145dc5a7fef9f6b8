"""Whether a failed try of a step is worth another, and how long to wait before it.

The pause grows by `factor`, and a random half of it is left out ("equal jitter"): tries that failed together do not come
back together, and none comes back at once.
"""

from collections.abc import Callable
from typing import Final

from agenttask.api.errors import AgentTaskError, NoTimeLeft, RetryableError, StepFailed
from agenttask.api.steps import Backoff, StepRetry

MAX_RETRY_AFTER: Final = 3600
"""Seconds that a server may make a step wait; whoever wishes for more is not asked again."""


def worth_retrying(error: AgentTaskError) -> bool:
    """Whether the same try may end otherwise: a step's own failure may, a task that contradicts itself may not."""
    if isinstance(error, NoTimeLeft):
        return False
    return error.retryable or isinstance(error, StepFailed)


def pause_before_retry(retry: StepRetry | None, tries: int, error: AgentTaskError, rng: Callable[[], float]) -> float | None:
    """Seconds until the next try, None where there is none; `tries` have failed so far, `rng` gives 0 up to 1.

    A server's Retry-After is kept to, also where it is longer than `maxSeconds`.
    """
    if retry is None or tries > retry.limit or not worth_retrying(error):
        return None
    wish = error.retry_after if isinstance(error, RetryableError) and error.retry_after is not None else 0.0
    if wish > MAX_RETRY_AFTER:
        return None
    return max(wish, backoff_seconds(retry.backoff, tries, rng))


def backoff_seconds(backoff: Backoff, tries: int, rng: Callable[[], float]) -> float:
    """The pause after so many failed tries: half of it for sure, the other half by chance."""
    whole = float(backoff.initial_seconds)
    for _ in range(tries - 1):
        if whole >= backoff.max_seconds:
            break
        whole *= backoff.factor
    whole = min(whole, float(backoff.max_seconds))
    return whole / 2 + rng() * whole / 2
