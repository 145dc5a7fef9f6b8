"""One budget of an AgentModel, divided among the attempts that use the model at the same time.

Everybody gets the same, and what is left over goes, one each, to the first in the order of their names: whoever
divides anew comes to the same shares. Nobody gets nothing, for that would be a task that never ends: with more attempts than the
limit has units the sum is above it, and keeping their number down is admission's part.
"""

from collections.abc import Collection, Iterable

from agenttask.api.model import Limits


def share_of(limits: Limits, member: str, members: Collection[str]) -> Limits:
    """What `member` may use; it counts as one of the members whether it is among them or not."""
    everyone = sorted({*members, member})
    place, count = everyone.index(member), len(everyone)
    return Limits(
        concurrent_calls=_part(limits.concurrent_calls, place, count),
        requests_per_minute=_part(limits.requests_per_minute, place, count),
        tokens_per_minute=_part(limits.tokens_per_minute, place, count),
    )


def grown(told: Limits, fair: Limits, limits: Limits, others: Iterable[Limits]) -> Limits:
    """The next share of a member that was `told` one: the fair one, but larger than that only by what nobody else has.

    Args:
        told: what it has.
        fair: what it is to have in the end.
        limits: of all together.
        others: what the others have been told.
    """
    taken = list(others)
    return Limits(
        concurrent_calls=_grown(
            told.concurrent_calls, fair.concurrent_calls, limits.concurrent_calls, [one.concurrent_calls for one in taken]
        ),
        requests_per_minute=_grown(
            told.requests_per_minute, fair.requests_per_minute, limits.requests_per_minute, [one.requests_per_minute for one in taken]
        ),
        tokens_per_minute=_grown(
            told.tokens_per_minute, fair.tokens_per_minute, limits.tokens_per_minute, [one.tokens_per_minute for one in taken]
        ),
    )


def _grown(told: int | None, fair: int | None, limit: int | None, others: Collection[int | None]) -> int | None:
    if limit is None or fair is None or told is None:
        return fair
    return min(fair, max(told, limit - sum(one or 0 for one in others)))


def _part(limit: int | None, place: int, count: int) -> int | None:
    if limit is None:
        return None
    each, rest = divmod(limit, count)
    return max(1, each + (place < rest))
