"""A live mirror of one collection: list, then watch for ever, typed, without ghosts and without hot loops.

Beside kopf, because kopf's own watching forgets deletions during a 410 gap, reconnects without back-off when a server
closes at once, and costs twenty times the CPU an event (reference: kopf 1.45.2, seen by running it). A relist replaces:
what is no longer listed is reported as gone. A lost stream resumes after the last event or bookmark seen.
"""

import asyncio
import logging
import random as randomness
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import Raw, Struct

from agenttask.controller.backoff import Backoff
from agenttask.controller.kube import KubeClient
from agenttask.controller.kube_errors import Forbidden, Gone, Invalid, KubeError, NotFound, TooManyRequests, from_answer

T = TypeVar("T", bound=Struct)
logger = logging.getLogger(__name__)

RECONNECTS = Backoff(initial=0.2, maximum=30.0)
REFUSED = Backoff(initial=10.0, maximum=60.0)
"""After 403 or 404: somebody has to grant the right or install the CRD first."""
SETTLED_SECONDS: Final = 10.0
"""A watch that lived this long was a good one: the next failure counts as a first."""
RELIST_AFTER: Final = 5
"""Failures in a row after which the resourceVersion itself is doubted: an etcd restored from a backup never reaches it."""
PRUNED_ABOVE: Final = 256
"""So many more than twice what was left the last time are looked through: each costs its share once."""
MAX_COMPLAINTS: Final = 1000
"""Undecodable objects that are remembered, so that each is logged once."""


class Malformed(Exception):
    """A list or watch answered something that is not the protocol."""


class _Meta(Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    uid: str = ""
    name: str = ""


class _Versioned(Struct, frozen=True):
    metadata: _Meta = _Meta()


class _RawPage(Struct, frozen=True):
    items: list[Raw] | None = None
    """The API server writes null for a list of nothing."""
    metadata: _Meta = _Meta()


class _Event(Struct, frozen=True):
    type: str
    object: Raw


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_page = msgspec.json.Decoder(_RawPage).decode
_decode_versioned = msgspec.json.Decoder(_Versioned).decode


class Reflector(Generic[T]):
    """Mirrors the collection at `path` into `items`, by `key`.

    `on_change(old, new)` is called in the loop for each appearance (old is None), change, and disappearance (new is
    None; also when an object leaves the selector). It must be quick and must not raise: an error of it ends `run`.

    What is not `wanted` counts as not there. That may come about without an event: then the object is let go without a word,
    when there are twice as many as the last time, or by `prune`.
    """

    def __init__(
        self,
        client: KubeClient,
        path: str,
        item_type: type[T],
        *,
        key: Callable[[T], str],
        on_change: Callable[[T | None, T | None], None],
        wanted: Callable[[T], bool] = lambda _: True,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
        clock: Callable[[], float] | None = None,
        random: Callable[[], float] = randomness.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.path = path
        self.synced = asyncio.Event()
        """Set after the first complete list, for good."""
        self.forbidden = False
        """Whether the last answer was 403; it goes on trying, slowly."""
        self._client = client
        self._selection: dict[str, Any] = {
            "label_selector": label_selector,
            "field_selector": field_selector,
            "metadata_only": metadata_only,
        }
        self._decode = msgspec.json.Decoder(item_type).decode
        self._key = key
        self._on_change = on_change
        self._wanted = wanted
        self._clock = clock if clock is not None else asyncio.get_running_loop().time
        self._random = random
        self._sleep = sleep
        self._items: dict[str, T] = {}
        self._roomy = PRUNED_ABOVE
        self._version: str | None = None
        self._latest: Raw | None = None
        """The last object that the watch brought; its resourceVersion is read only when the stream is lost."""
        self._complained: set[str] = set()
        self.last_event = self._clock()
        """When the server last said anything (list, event, bookmark), by the clock."""
        self.last_try = self.last_event
        """When it was last asked, or last said anything."""

    @property
    def items(self) -> Mapping[str, T]:
        """What the server has, as far as it told; a read-only view."""
        return MappingProxyType(self._items)

    def prune(self) -> None:
        """Let go what is not wanted any more."""
        for key in [key for key, item in self._items.items() if not self._wanted(item)]:
            del self._items[key]
        self._roomy = PRUNED_ABOVE + 2 * len(self._items)

    async def run(self) -> None:
        """Mirror until cancelled."""
        failures = 0
        while True:
            started, error = self._clock(), None
            self.last_try = started
            try:
                if self._version is None:
                    await self._list()
                await self._watch(self._version or "")
            except (KubeError, Malformed) as problem:
                error = problem
            failures = 1 if self._clock() - started >= SETTLED_SECONDS else failures + 1
            self._remember(error, failures)
            await self._sleep(self._delay(error, failures))

    def _remember(self, error: Exception | None, failures: int) -> None:
        """Where to go on: after the last event seen, or from a new list."""
        if self._latest is not None:
            self._version = _version(self._latest) or self._version
            self._latest = None
        if isinstance(error, Gone | Invalid | Forbidden | NotFound | Malformed) or failures % RELIST_AFTER == 0:
            self._version = None
        self.forbidden = isinstance(error, Forbidden)
        told = isinstance(error, Gone) or error is None
        logger.log(
            logging.DEBUG if told or failures > 1 else logging.WARNING,
            "watch of %s %s; %s",
            self.path,
            f"failed: {error}" if error is not None else "ended",
            "listing again" if self._version is None else f"going on from {self._version}",
        )

    def _delay(self, error: Exception | None, failures: int) -> float:
        delay = (REFUSED if isinstance(error, Forbidden | NotFound) else RECONNECTS).delay(failures, self._random)
        wished = error.retry_after if isinstance(error, TooManyRequests) else None
        # Jitter is added to the server's wish, never taken from it: all its clients were told the same number.
        return delay if wished is None else wished + delay

    async def _list(self) -> None:
        found: dict[str, T] = {}
        version = ""
        async with aclosing(self._client.list(self.path, **self._selection)) as pages:
            async for body in pages:
                try:
                    page = _decode_page(body)
                except msgspec.MsgspecError as error:
                    raise Malformed(f"list: {error}") from error
                version = page.metadata.resource_version
                for raw in page.items or ():
                    item = self._read(raw)
                    if item is not None and self._wanted(item):
                        found[self._key(item)] = item
        self._version = version
        self.forbidden = False
        self.last_event = self._clock()
        for key in [key for key in self._items if key not in found]:
            self._drop(key)
        for key, item in found.items():
            self._put(key, item)
        self.synced.set()

    async def _watch(self, version: str) -> None:
        async with aclosing(self._client.watch(self.path, resource_version=version, **self._selection)) as lines:
            async for line in lines:
                self.last_event = self.last_try = self._clock()
                try:
                    event = _decode_event(line)
                except msgspec.MsgspecError as error:
                    raise Malformed(f"event: {error}") from error
                self._apply(event)

    def _apply(self, event: _Event) -> None:
        if event.type == "ERROR":
            raise from_answer(0, event.object)
        if event.type not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
            raise Malformed(f"event: unknown type {event.type!r}")
        self._latest = event.object
        if event.type == "BOOKMARK":
            return
        item = self._read(event.object)
        if item is None:
            return
        if event.type == "DELETED":
            self._drop(self._key(item))
        else:
            self._put(self._key(item), item)

    def _read(self, raw: Raw) -> T | None:
        """The object, or None if it is not of our type: one that is odd must not hide the others."""
        try:
            return self._decode(raw)
        except msgspec.MsgspecError as error:
            try:
                meta = _decode_versioned(raw).metadata
            except msgspec.MsgspecError as worse:
                raise Malformed(f"object: {worse}") from worse
            if meta.uid not in self._complained and len(self._complained) < MAX_COMPLAINTS:
                self._complained.add(meta.uid)
                logger.warning("skipping %r of %s, which is not as expected: %s", meta.name, self.path, error)
            return None

    def _put(self, key: str, item: T) -> None:
        if not self._wanted(item):
            self._drop(key)
            return
        old = self._items.get(key)
        if old != item:
            self._items[key] = item
            self._on_change(old, item)
            if len(self._items) > self._roomy:
                self.prune()

    def _drop(self, key: str) -> None:
        old = self._items.pop(key, None)
        if old is not None:
            self._on_change(old, None)


def _version(raw: Raw) -> str | None:
    try:
        return _decode_versioned(raw).metadata.resource_version or None
    except msgspec.MsgspecError:
        return None
