"""Which of several controllers writes: the one that holds the Lease, and only while enough of it is left.

A replica that loses the lease ends, as Kubernetes' own controllers do, and starts anew as a candidate: nothing of a
former leader's plans survives. Names of pods and resourceVersions of statuses would make a second leader harmless; the
lease makes it rare.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from agenttask.controller.kube_errors import AlreadyExists, Conflict, KubeError, NotFound
from agenttask.controller.kube_paths import lease_path, leases_path
from agenttask.controller.lease import Lease, LeaseMeta, LeaseSpec, decode, may_take, released, taken

logger: Final = logging.getLogger(__name__)
WRITE_MARGIN: Final = 1.0
"""Seconds that must be left before the renewal's deadline when a write begins."""
RENEWALS: Final = 5
"""So often the holder renews within its deadline."""
_encode: Final = msgspec.json.Encoder().encode


class NotLeading(KubeError):
    """This replica does not hold the lease, or too little of it is left; the leader does the work."""

    retryable = True


class LeaseWriter(Protocol):
    """The calls that election makes (KubeClient)."""

    async def get(self, path: str) -> bytes:
        """One object."""
        ...

    async def create(self, path: str, body: bytes) -> bytes:
        """POST to a collection."""
        ...

    async def patch(self, path: str, body: bytes) -> bytes:
        """Merge-patch an object."""
        ...


class Terms(Struct, frozen=True, kw_only=True):
    """What is held and for how long, in seconds.

    Others may take it after `lease`; a holder that cannot renew gives up after `renew`; a candidate tries every `retry`.
    """

    name: str
    namespace: str
    identity: str
    lease: int = 15
    renew: int = 10
    retry: float = 1.0


class Leadership:
    """One candidate. `clock` counts seconds that go on while the process is stopped, `wall` is Unix time."""

    def __init__(
        self,
        client: LeaseWriter,
        terms: Terms,
        *,
        clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._client, self._terms, self._clock, self._wall = client, terms, clock, wall
        self._path = lease_path(terms.namespace, terms.name)
        self._lease: Lease | None = None
        self._changed = clock()
        """When the record was last seen to be another."""
        self._until = float("-inf")
        self.acquired = asyncio.Event()

    def leading(self) -> bool:
        """Whether a write may begin now."""
        return self._clock() < self._until - WRITE_MARGIN

    async def run(self) -> None:
        """Stand for election, then hold the lease; returns when it is lost."""
        while not await self._try():  # noqa: ASYNC110 - the other side is a server
            await asyncio.sleep(self._terms.retry)
        logger.info("leading: %s holds lease %s/%s", self._terms.identity, self._terms.namespace, self._terms.name)
        self.acquired.set()
        while self._clock() < self._until:
            await asyncio.sleep(self._terms.renew / RENEWALS)
            await self._try()
        logger.error("lost lease %s/%s: not renewed for %d s", self._terms.namespace, self._terms.name, self._terms.renew)

    async def release(self) -> None:
        """Give the lease back, so that another replica can go on at once; whatever was to be written is written."""
        if self._clock() >= self._until:
            return
        self._until = float("-inf")
        try:
            await self._give_back()
        except KubeError as error:
            logger.warning("lease not released, it runs out by itself: %s", error)
        else:
            logger.info("lease %s/%s released", self._terms.namespace, self._terms.name)

    async def _give_back(self) -> None:
        try:
            lease = self._lease if self._lease is not None else await self._ours()
            await self._write(lease, released(lease, now=self._wall()))
        except Conflict:  # perhaps with a renewal of ours that was broken off, and arrived all the same
            lease = await self._ours()
            await self._write(lease, released(lease, now=self._wall()))

    async def _ours(self) -> Lease:
        """The lease as it stands.

        Raises:
            Conflict: another replica holds it.
        """
        found = decode(await self._client.get(self._path))
        if found.spec.holder_identity != self._terms.identity:
            raise Conflict(409, "HeldByAnother", f"{found.spec.holder_identity!r} holds it")
        return found

    async def _try(self) -> bool:
        """Take or renew the lease; whether it is ours now."""
        began = self._clock()
        try:
            lease = await self._look()
            if lease is not None and not may_take(lease, self._terms.identity, unchanged=self._clock() - self._changed):
                self._until = float("-inf")
                return False
            spec = taken(lease, self._terms.identity, seconds=self._terms.lease, now=self._wall())
            self._lease = await self._write(lease, spec)
        except (Conflict, AlreadyExists, NotFound):
            return False  # somebody was faster, or meddled with it
        except KubeError as error:
            logger.warning("lease %s/%s: %s", self._terms.namespace, self._terms.name, error)
            return False
        self._changed = self._clock()
        self._until = began + self._terms.renew
        return True

    async def _look(self) -> Lease | None:
        """The lease as it stands; the holder trusts what it wrote, and learns of a change by the conflict."""
        if self._lease is not None and self._clock() < self._until:
            return self._lease
        try:
            found = decode(await self._client.get(self._path))
        except NotFound:
            self._lease = None
            return None
        if self._lease is None or found.metadata.resource_version != self._lease.metadata.resource_version:
            self._changed = self._clock()
        self._lease = found
        return found

    async def _write(self, lease: Lease | None, spec: LeaseSpec) -> Lease:
        terms = self._terms
        if lease is None:
            made = Lease(metadata=LeaseMeta(name=terms.name, namespace=terms.namespace), spec=spec)
            return decode(await self._client.create(leases_path(terms.namespace), _encode(made)))
        body = {"metadata": {"resourceVersion": lease.metadata.resource_version}, "spec": spec}
        try:
            return decode(await self._client.patch(self._path, _encode(body)))
        except (Conflict, NotFound):
            self._lease = None  # look again who holds it
            raise


class Always:
    """The leadership of a controller that has no rival: there is one replica, and its name says so."""

    def __init__(self) -> None:
        self.acquired = asyncio.Event()
        self.acquired.set()

    def leading(self) -> bool:
        """Always."""
        return True

    async def run(self) -> None:
        """Lead for ever."""
        await asyncio.Event().wait()

    async def release(self) -> None:
        """There is nothing to release."""
