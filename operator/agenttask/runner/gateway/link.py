"""What one run does through the gateway: its checkpoint, its live reports, an output that is too large for the termination message.

Made by the run and ended with it; until the first request it costs a timer.
"""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Self

from msgspec import Struct

from agenttask.api.constants import ENV_GATEWAY_TOKEN
from agenttask.api.document import GatewayDocument
from agenttask.api.errors import AgentTaskError, NotHandedOver, OutputRejected, OutputTooLarge
from agenttask.api.gateway import MAX_RECORD_BYTES, MAX_REPORTED_MODELS, MAX_TOKEN_CHARACTERS, LiveReport, ModelReport, Share
from agenttask.api.model import Limits
from agenttask.api.report import MOST_COUNTED, Report, bounded
from agenttask.runner.checkpoint_writer import Pace
from agenttask.runner.gateway.client import GatewayClient
from agenttask.runner.gateway.errors import Fenced, GatewayError, GatewayRefused, GatewayUnavailable, QuotaExceeded, RecordTooLarge
from agenttask.runner.gateway.exchange import place
from agenttask.runner.gateway.live_reports import LiveReports
from agenttask.runner.gateway.store import PACE, GatewayStore
from agenttask.runner.models import Models, ModelUse
from agenttask.runner.termination import well_formed

_TOKEN: Final = re.compile(rf"[!-~]{{1,{MAX_TOKEN_CHARACTERS}}}")
_REMEDY: Final = "let `output` name a shorter text, or write it to a volume"

QUOTA_SECONDS: Final = 300.0
"""How long a quota of records is waited for, as an object store that is away is; `activeDeadlineSeconds` may end it before."""

MakeRoom = Callable[[int], Awaitable[None]]
"""Saves the checkpoint within so many bytes."""


class GatewayAccess(Struct, frozen=True, kw_only=True):
    """Where the gateway is, and what an attempt needs to use it."""

    document: GatewayDocument
    token: str
    attempt: int
    grace_seconds: float
    """How long handing over an output may take: what a stopped runner has."""
    log: Callable[[str, str], None]
    rng: Callable[[], float] = random.random
    quota_seconds: float = QUOTA_SECONDS

    @classmethod
    def of(
        cls, document: GatewayDocument, token: str | None, *, attempt: int, grace_seconds: float, log: Callable[[str, str], None]
    ) -> Self:
        """Checked as far as it can be without a request.

        Raises:
            GatewayRefused: there is no token, or the URL is none.
        """
        if token is None or not _TOKEN.fullmatch(token):
            raise GatewayRefused(f"the variable {ENV_GATEWAY_TOKEN} holds no token")
        place(document.url)
        return cls(document=document, token=token, attempt=attempt, grace_seconds=grace_seconds, log=log)

    def __repr__(self) -> str:
        """Without the token."""
        return f"GatewayAccess({self.document.url})"

    def open(self, *, snapshot: Callable[[], Report], models: Models, asks: bool, fenced: Callable[[Fenced], None]) -> "GatewayLink":
        """A run's own.

        Args:
            snapshot: the run's report as it stands.
            models: they tell their use, and take their shares.
            asks: whether the task has models.
            fenced: ends the run.
        """
        client = GatewayClient(self.document, self.token, fenced=fenced, rng=self.rng)
        return GatewayLink(self, client, snapshot=snapshot, models=models, asks=asks)


class GatewayLink:
    """See GatewayAccess.open."""

    pace: Pace = PACE

    def __init__(self, access: GatewayAccess, client: GatewayClient, *, snapshot: Callable[[], Report], models: Models, asks: bool) -> None:
        self._client = client
        self._grace_seconds, self._quota_seconds, self._log = access.grace_seconds, access.quota_seconds, access.log
        self.waits_for = ""
        """What the output waits for, while it does."""
        self.store = GatewayStore(client, attempt=access.attempt)
        self.live = LiveReports(
            client,
            snapshot=lambda: live_report(snapshot(), models.use),
            share=lambda shares: models.share({name: _limits(share) for name, share in shares.items()}),
            asks=asks,
            log=access.log,
            rng=access.rng,
        )

    async def keep_output(self, output: bytes, too_large: OutputTooLarge, *, make_room: MakeRoom | None) -> AgentTaskError | None:
        """Hand over an output; None when it is kept, else why the task fails.

        Args:
            output: of the task, UTF-8.
            too_large: what the termination message said of it.
            make_room: for it, where checkpoint and output are too much together. None where an object store is tried next: the
                checkpoint stays, as the store may be away, half of the time is left, and no quota is waited for.
        """
        size = len(output)
        try:
            if make_room is None:
                await self._client.keep_output(output, seconds=self._grace_seconds / 2)
            else:
                await self._keep(output, make_room)
        except Fenced as error:
            return error
        except RecordTooLarge as error:
            return OutputTooLarge(f"the output has {size} bytes, at most {MAX_RECORD_BYTES} are kept of a task: {error}; {_REMEDY}")
        except QuotaExceeded as error:
            tried = f" within {self._quota_seconds:.0f} s" if make_room is not None else ""
            return OutputRejected(
                f"the output has {size} bytes, more than the pod's own report holds, and was not taken{tried}: {error}; or {_REMEDY}"
            )
        except GatewayUnavailable as error:
            return NotHandedOver(
                f"the output has {size} bytes, more than the pod's own report holds, and the controller took none of it: {error}"
            )
        except GatewayError as error:
            return OutputTooLarge(f"{too_large}; it could not be kept otherwise: {error}")
        return None

    async def _keep(self, output: bytes, make_room: MakeRoom) -> None:
        """The run is done: its checkpoint gives way, first as far as bytes are counted, then altogether, as escapes count in the store."""
        for room in (MAX_RECORD_BYTES - len(output), 0):
            try:
                await self._when_there_is_room(output)
            except RecordTooLarge:
                if room < 0:
                    raise
                await make_room(room)
            else:
                return
        await self._when_there_is_room(output)

    async def _when_there_is_room(self, output: bytes) -> None:
        """Wait for a quota: all that the run has made would be lost with its output."""
        now = asyncio.get_running_loop().time
        ends = now() + self._quota_seconds
        while True:
            try:
                await self._client.keep_output(output, seconds=self._grace_seconds)
            except QuotaExceeded as error:
                first, self.waits_for = not self.waits_for, str(error)
                if first:
                    self._log("output", f"waits for {self._quota_seconds:.0f} s at most: {error}")
                    await self.live.tell()
                if now() + error.retry_after >= ends:
                    raise
                await asyncio.sleep(error.retry_after)
            else:
                return

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def live_report(report: Report, use: Sequence[ModelUse]) -> LiveReport:
    """The report of a running attempt, within the bounds that the controller reads."""
    found = bounded(well_formed(report))
    return LiveReport(
        started=found.started,
        steps=found.steps,
        usage=found.usage,
        models=tuple(
            ModelReport(
                name=each.name,
                calls=min(each.calls, MOST_COUNTED),
                call_seconds=round(each.seconds, 3),
                breaker_open_seconds=round(each.breaker_open_seconds, 3),
            )
            for each in use[:MAX_REPORTED_MODELS]
        ),
    )


def _limits(share: Share) -> Limits:
    """A share of nothing lets no call through until the next one."""

    def at_least_none(value: int | None) -> int | None:
        return None if value is None else max(0, value)

    return Limits(
        concurrent_calls=at_least_none(share.concurrent_calls),
        requests_per_minute=at_least_none(share.requests_per_minute),
        tokens_per_minute=at_least_none(share.tokens_per_minute),
    )
