"""One budget of an AgentModel, divided among the attempts that use the model at the same time.

Everybody gets the same, and what is left over goes, one each, to the first in the order of their names: whoever
divides anew comes to the same shares. Nobody gets nothing, for that would be a task that never ends: with more attempts than the
limit has units the sum is above it, and keeping their number down is admission's part.
"""

from collections.abc import Collection

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


def _part(limit: int | None, place: int, count: int) -> int | None:
    if limit is None:
        return None
    each, rest = divmod(limit, count)
    return max(1, each + (place < rest))
