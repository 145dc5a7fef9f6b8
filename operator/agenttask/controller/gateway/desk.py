"""What the gateway does with a request, whoever carried it here: who asks, may they still, then the record or the memory.

It is the reconciler's handover too (controller/handover.py): both see the same reports.
"""

import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from agenttask.api.constants import ENV_GATEWAY_TOKEN, POD_GRACE_SECONDS
from agenttask.api.document import GatewayDocument
from agenttask.api.gateway import REPORT_SECONDS, LiveReport, ReportAnswer, TokenClaims
from agenttask.api.model import AgentModelSpec
from agenttask.api.report import Report
from agenttask.api.task import AgentTaskSpec
from agenttask.controller.gateway.fencing import Standing, standing
from agenttask.controller.gateway.health import ModelHealth
from agenttask.controller.gateway.live import LiveReports
from agenttask.controller.gateway.rate import Rate
from agenttask.controller.gateway.records import Records
from agenttask.controller.gateway.refusals import Busy, Fenced, QuotaExceeded, Unauthorized, Unavailable
from agenttask.controller.gateway.sharing import Holders, Sharing
from agenttask.controller.gateway.tokens import BadToken, Tokens
from agenttask.controller.handover import HERE, Entry
from agenttask.controller.pod_name import pod_name
from agenttask.domain.observation import SeenPod, SeenTask, StoredOutput

REPORTS_PER_SECOND: Final = 20.0
"""Of all attempts together: with more of them, each is asked to report more seldom."""
LONGEST_REPORT_SECONDS: Final = 60.0
_CLOCKS_APART: Final = 600
"""Tokens are issued and read by replicas, whose clocks differ."""
_VIEW_CATCHES_UP: Final = 1.0


class View(Protocol):
    """What the controller's caches know."""

    def task(self, uid: str) -> SeenTask | None:
        """The task, unless it is final or gone."""
        ...

    async def over(self, claims: TokenClaims) -> bool:
        """Whether the API server says that a task which is in no cache is final or gone: Fenced is for good, and a cache may lag behind.

        Raises:
            Unavailable: it does not tell now.
        """
        ...

    def pod(self, uid: str, name: str) -> SeenPod | None:
        """Its pod of this name."""
        ...

    def models(self, task: SeenTask, pod: SeenPod | None) -> Mapping[str, AgentModelSpec]:
        """The AgentModels that its pod uses, fallbacks among them, as the pod's device class has them."""
        ...

    def elsewhere(self, task: SeenTask, pod: SeenPod | None) -> Mapping[str, str]:
        """Those of them that are another AgentModel on the pod's device class, each with that one."""
        ...


class Identity(Protocol):
    """What the mounted Secret says by now."""

    @property
    def tokens(self) -> Tokens:
        """Issues and reads tokens."""
        ...

    @property
    def ca(self) -> str:
        """The PEM of the CA that signed the certificate."""
        ...


class Desk:
    """Requests of running attempts, one method each; all raise Refused."""

    def __init__(
        self,
        *,
        view: View,
        records: Records,
        wake: Callable[[str], None],
        identity: Identity,
        url: str,
        holders: Holders = lambda _, __: (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`holders` are the tasks that have a turn and call a model, by namespace and AgentModel."""
        self._view, self._records, self._identity, self._url, self._clock = view, records, identity, url, clock
        self._live = LiveReports(wake)
        self._sharing = Sharing(clock, holders)
        self._rate = Rate(clock)
        self.health = ModelHealth(clock)

    async def admit(self, authorization: str | None) -> TokenClaims:
        """Who asks, if that attempt may still speak.

        Raises:
            Unauthorized: no token, or none of ours.
            Fenced: the attempt is over.
            Unavailable: this replica does not know of the attempt yet.
            Busy: too many requests.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized("an `Authorization: Bearer` header is needed")
        try:
            claims = self._identity.tokens.read(token.strip(), self._clock())
        except BadToken as error:
            raise Unauthorized(str(error)) from error
        wait = self._rate.wait(claims.uid)
        if wait:
            raise Busy("too many requests of this attempt", retry_after=wait)
        if self._view.task(claims.uid) is None and not await self._view.over(claims):
            raise Unavailable("this replica does not know the task yet", retry_after=_VIEW_CATCHES_UP)
        self._still(claims)
        return claims

    async def checkpoint(self, claims: TokenClaims) -> bytes:
        """What an earlier attempt has left."""
        return await self._records.checkpoint(claims)

    async def keep_checkpoint(self, claims: TokenClaims, body: bytes) -> None:
        """Leave it to the next attempt; asked again whether this one may: a body takes its time to come."""
        self._still(claims)
        await self._records.put_checkpoint(claims, body)
        self._tidy(claims)

    async def keep_output(self, claims: TokenClaims, text: str) -> None:
        """The task's output, before the attempt's last report."""
        self._still(claims)
        try:
            await self._records.put_output(claims, text)
            self._live.kept(claims.uid)
        except QuotaExceeded as error:
            self._live.no_room(claims, str(error))
            raise
        finally:
            self._tidy(claims)

    def report(self, claims: TokenClaims, told: LiveReport) -> ReportAnswer:
        """How far the attempt is; what it may ask of its models from now on."""
        task = self._still(claims)
        pod = self._pod(claims)
        used, elsewhere = self._view.models(task, pod), self._view.elsewhere(task, pod)
        self._live.take(claims, told)
        for report in told.models:
            if report.name in used:
                self.health.take(claims.namespace, claims.uid, report, elsewhere.get(report.name, report.name))
        following = min(LONGEST_REPORT_SECONDS, max(REPORT_SECONDS, len(self._live) / REPORTS_PER_SECOND))
        shares = self._sharing.renew(claims.namespace, claims.uid, used, elsewhere, next_report=following)
        return ReportAnswer(limits=shares, next_report_seconds=following)

    def enter(
        self,
        task: SeenTask,
        spec: AgentTaskSpec,
        attempt: int,
        models: Mapping[str, AgentModelSpec],
        elsewhere: Mapping[str, str] = HERE,
    ) -> Entry:
        """A pod is about to be made."""
        lives = spec.pending_deadline_seconds + spec.active_deadline_seconds + POD_GRACE_SECONDS + _CLOCKS_APART
        claims = TokenClaims(
            namespace=task.namespace, task=task.metadata.name, uid=task.uid, attempt=attempt, expires=int(self._clock()) + lives
        )
        return Entry(
            models=self._sharing.first(task.namespace, task.uid, models, elsewhere),
            gateway=GatewayDocument(url=self._url, ca=self._identity.ca),
            variables={ENV_GATEWAY_TOKEN: self._identity.tokens.issue(claims)},
        )

    def live(self, uid: str, attempt: int) -> Report | None:
        """How far the attempt is, if it told."""
        return self._live.of(uid, attempt)

    def waits_for_record(self, uid: str, attempt: int) -> str:
        """Why the attempt's output is not stored yet."""
        return self._live.waits(uid, attempt)

    def due(self, uid: str) -> float:
        """From when on a status write may be spent on progress alone."""
        return self._live.due(uid)

    def status_written(self, uid: str) -> None:
        """The task's status was written just now."""
        self._live.written(uid, self._clock())

    async def stored_output(self, task: SeenTask, attempt: int) -> StoredOutput | None:
        """What an attempt whose report says `outputStored` did store."""
        return await self._records.output(task, attempt)

    def forget(self, uid: str) -> None:
        """The task is final or gone."""
        self._live.forget(uid)
        self._records.forget(uid)
        self._rate.forget(uid)
        self._sharing.leave(uid)

    def _tidy(self, claims: TokenClaims) -> None:
        """A task that ended while its record was written is not remembered again."""
        if self._view.task(claims.uid) is None:
            self.forget(claims.uid)

    def _still(self, claims: TokenClaims) -> SeenTask:
        task = self._view.task(claims.uid)
        match standing(claims, task, self._pod(claims)):
            case Standing.CURRENT if task is not None:
                return task
            case Standing.UNKNOWN:
                raise Unavailable("the attempt is newer than this replica's view of it", retry_after=_VIEW_CATCHES_UP)
            case _:
                raise Fenced(f"attempt {claims.attempt} of {claims.namespace}/{claims.task} is over")

    def _pod(self, claims: TokenClaims) -> SeenPod | None:
        return self._view.pod(claims.uid, pod_name(claims.task, claims.uid, claims.attempt))
