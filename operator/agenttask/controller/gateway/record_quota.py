"""Namespaces whose ResourceQuota takes no further AgentTaskRecord: asked seldom, however many tasks wait there."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from agenttask.controller.gateway.refusals import QuotaExceeded
from agenttask.controller.kube_errors import Forbidden

logger: Final = logging.getLogger(__name__)
ASKED_EVERY: Final = 5.0
"""Seconds."""
_REFUSES: Final = "exceeded quota"
_REMEDY: Final = "raise it, or delete finished tasks (ttlSecondsAfterFinished does): their records go with them"


class RecordQuota:
    """What was said of each namespace is believed for a while; `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._full: dict[str, tuple[float, str]] = {}
        """By namespace: until when it is believed, and what was said."""

    async def within(self, namespace: str, create: Callable[[], Awaitable[bytes]]) -> bytes:
        """The record as `create` stores it in this namespace.

        Raises:
            QuotaExceeded: a quota takes none; the message has the quota, its limit and the remedy.
        """
        until, said = self._full.get(namespace, (0.0, ""))
        if said and self._clock() < until:
            raise QuotaExceeded(said, retry_after=ASKED_EVERY)
        if said:  # one asks for all who come before it has its answer
            self._full[namespace] = (self._clock() + ASKED_EVERY, said)
        try:
            answer = await create()
        except Forbidden as error:
            at = error.message.find(_REFUSES)
            if at < 0:
                raise
            said = f"the namespace has no room for the task's AgentTaskRecord: {error.message[at:]}; {_REMEDY}"
            self._full[namespace] = (self._clock() + ASKED_EVERY, said)
            logger.warning("namespace %s: %s", namespace, said)
            raise QuotaExceeded(said, retry_after=ASKED_EVERY) from error
        self._full.pop(namespace, None)
        return answer
