"""What kopf does here: the stream of AgentTasks and AgentModels, start and stop. No state of its own, no writes.

`on.event` only, with storages that store nothing: no finalizers, no annotations, no patches (every other handler
of kopf costs one to three writes an object).
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import kopf

from agenttask.api.constants import GROUP, MODEL_PLURAL, TASK_PLURAL, VERSION
from agenttask.api.reasons import Phase

UNFINISHED: Final = ",".join(f"status.phase!={phase}" for phase in Phase if phase.terminal)
"""Server-side: a task that becomes final leaves the stream, as DELETED with its old body, which is no deletion."""


class NoDiffBase(kopf.DiffBaseStorage):
    """Remembers no last-seen state: half the CPU an event."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:  # noqa: ARG002 - kopf's signatures, here and below
        """Nothing to compare."""
        return {}

    def fetch(self, *, body: Any) -> Any:  # noqa: ARG002
        """Nothing stored."""
        return None

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Store nothing."""


class NoProgress(kopf.ProgressStorage):
    """Remembers no handler's progress."""

    def fetch(self, *, key: Any, body: Any) -> Any:  # noqa: ARG002
        """Nothing stored."""
        return None

    def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:
        """Store nothing."""

    def purge(self, *, key: Any, body: Any, patch: Any) -> None:
        """Nothing to remove."""

    def touch(self, *, body: Any, patch: Any, value: Any) -> None:
        """Touch nothing."""

    def clear(self, *, essence: Any) -> Any:
        """As it is."""
        return essence


class Listener(Protocol):
    """Who takes the events in; its methods are quick."""

    def task_event(self, kind: str | None, body: dict[str, Any]) -> None:
        """A task as listed (None), ADDED, MODIFIED or DELETED."""
        ...

    def model_event(self, kind: str | None, body: dict[str, Any]) -> None:
        """A model, likewise."""
        ...

    async def start(self) -> None:
        """Kopf starts."""
        ...

    async def stop(self) -> None:
        """Kopf ends; whatever runs must end now, or kopf waits five seconds for it."""
        ...


def settings() -> kopf.OperatorSettings:
    """Kopf's settings."""
    wanted = kopf.OperatorSettings()
    wanted.peering.standalone = True
    wanted.scanning.disabled = True  # no watch on CRDs and namespaces, so no right on them
    wanted.posting.enabled = False
    wanted.persistence.diffbase_storage = NoDiffBase()
    wanted.persistence.progress_storage = NoProgress()
    wanted.watching.field_selectors[GROUP, VERSION, TASK_PLURAL] = UNFINISHED
    wanted.watching.chunk_size = 500
    wanted.watching.reconnect_backoff = 1.0
    wanted.watching.initial_streaming = False  # loses objects when the first stream is cut (kopf 1.45.2, seen by running it)
    wanted.queueing.idle_timeout = 0.5  # a worker keeps the last body until it ends
    wanted.networking.request_timeout = 30.0
    # Past these a list or watch begins anew (stream_errors.py).
    wanted.networking.error_backoffs = (1, 1, 2, 3, 5, 8, 13, 21, 30, 30, 30, 30)
    wanted.process.ultimate_exiting_timeout = 25.0
    return wanted


def registry(listener: Listener, login: Callable[..., Awaitable[kopf.AiohttpSession]]) -> kopf.OperatorRegistry:
    """The handlers, on a registry of their own: kopf's default one is global."""
    handlers = kopf.OperatorRegistry()

    async def on_task(event: Any, **_: Any) -> None:
        listener.task_event(event["type"], event["object"])

    async def on_model(event: Any, **_: Any) -> None:
        listener.model_event(event["type"], event["object"])

    async def on_startup(**_: Any) -> None:
        await listener.start()

    async def on_cleanup(**_: Any) -> None:
        await listener.stop()

    kopf.on.login(registry=handlers)(login)
    kopf.on.startup(registry=handlers)(on_startup)
    kopf.on.cleanup(registry=handlers)(on_cleanup)
    kopf.on.event(GROUP, VERSION, TASK_PLURAL, registry=handlers)(on_task)
    kopf.on.event(GROUP, VERSION, MODEL_PLURAL, registry=handlers)(on_model)
    return handlers
