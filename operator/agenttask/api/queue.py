"""AgentQueue as types: a line that tasks wait in, and the status that the controller writes."""

from typing import Annotated

from msgspec import Meta, Struct

from agenttask.api.meta import Condition, ObjectMeta
from agenttask.api.steps import Wire
from agenttask.api.task import Observed

DEFAULT_QUEUE = "default"
"""The queue of tasks that name none; it need not exist, and is then without limits."""
DEFAULT_AGING_SECONDS = 300


class AgentQueueSpec(Wire, frozen=True, kw_only=True):
    """What the tasks of a queue share."""

    concurrency: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    """Tasks that run at once."""
    devices: Annotated[dict[str, Annotated[int, Meta(ge=0, le=100_000)]], Meta(max_length=16)] = {}
    """Tasks that run at once on a device class, by its name."""
    aging_seconds: Annotated[int, Meta(ge=0, le=604_800)] = DEFAULT_AGING_SECONDS
    """Waiting so long counts as one step of priority; 0: it counts for nothing."""
    paused: bool = False


class AgentQueueStatus(Observed, frozen=True, kw_only=True):
    """Where the queue stands."""

    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()
    """`Accepted` alone: whether the controller can heed all that spec says."""
    running: int = 0
    pending: int = 0
    oldest_pending_time: str | None = None


class AgentQueue(Struct, frozen=True, kw_only=True, rename="camel"):
    """One queue as the API server stores it."""

    metadata: ObjectMeta
    spec: AgentQueueSpec
    status: AgentQueueStatus = AgentQueueStatus()
