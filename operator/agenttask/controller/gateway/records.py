"""AgentTaskRecords on the API server: one write a flush, none for what is stored already, and the attempt as second fence.

What was stored is remembered as version, sizes and digests, so that a flush needs no read before it; a Conflict is
answered with a look at the record. Each task's requests come one after the other.
"""

import asyncio
import base64
import binascii
import functools
import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from agenttask.api.constants import MAX_STATUS_OUTPUT_BYTES, RECORD_KIND
from agenttask.api.gateway import TokenClaims
from agenttask.api.meta import ObjectMeta
from agenttask.api.record import AgentTaskRecord
from agenttask.api.task import OutputRef
from agenttask.controller.gateway import record_body
from agenttask.controller.gateway.record_body import Size
from agenttask.controller.gateway.record_quota import RecordQuota
from agenttask.controller.gateway.refusals import Fenced, NotStored, TooLarge, Unavailable
from agenttask.controller.kube_errors import AlreadyExists, Conflict, KubeError, NotFound, TooManyRequests
from agenttask.controller.kube_paths import record_path, records_path
from agenttask.domain.observation import SeenTask, StoredOutput

logger: Final = logging.getLogger(__name__)
_LOOKS: Final = 3
"""Somebody else writes the record while a request is under way: hardly ever, and then once."""
_TRY_AGAIN: Final = 1.0
_FOR_A_PERSON: Final = 60.0
_STORE_REFUSES: Final = "request is too large"
"""etcd's words, in an answer with status 500."""
_decode: Final = msgspec.json.Decoder(AgentTaskRecord).decode


class Writer(Protocol):
    """The calls to the API server that a record needs (KubeClient)."""

    async def get(self, path: str) -> bytes:
        """One object."""
        ...

    async def create(self, path: str, body: bytes) -> bytes:
        """POST to a collection."""
        ...

    async def patch(self, path: str, body: bytes) -> bytes:
        """Merge-patch an object."""
        ...


class _Head(Struct, frozen=True):
    """Of an answer to a write only the version is read: the rest is what was sent."""

    metadata: ObjectMeta


_decode_head: Final = msgspec.json.Decoder(_Head).decode


class _Strange(Exception):
    """The record that has our name is not ours, or cannot be read."""


class _Part(Struct, frozen=True):
    """What is known of one stored part."""

    size: Size = Size()
    digest: bytes = b""


class _Known(Struct, frozen=True, kw_only=True):
    """What is known of a stored record; `text` is the output where it is short enough for the status."""

    version: str
    attempt: int
    checkpoint: _Part = _Part()
    output: _Part = _Part()
    text: str | None = None


class Records:
    """The records of the tasks that are not final."""

    def __init__(self, writer: Writer, clock: Callable[[], float] = time.monotonic) -> None:
        self._writer = writer
        self._quota = RecordQuota(clock)
        self._known: dict[str, _Known] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    async def checkpoint(self, claims: TokenClaims) -> bytes:
        """The checkpoint of the last attempt that left one.

        Raises:
            NotStored: none did.
            Fenced: a later attempt has written.
            Unavailable: the API server does not tell.
        """
        async with self._turn(claims.uid):
            with _refusing():
                found = await self._look(claims.namespace, claims.task, claims.uid)
        if found is None or not found.checkpoint:
            raise NotStored("no earlier attempt of this task has left a checkpoint")
        _in_time(claims, found.attempt)
        return base64.b64decode(found.checkpoint)

    async def put_checkpoint(self, claims: TokenClaims, body: bytes) -> None:
        """Store a checkpoint in the place of the one before.

        Raises:
            TooLarge: it does not fit beside the output.
            Fenced: a later attempt has written.
            QuotaExceeded: the task has no record yet, and a quota takes none.
            Unavailable: the API server does not take it now.
        """
        part = _Part(record_body.size_of_checkpoint(body), _digest(body))

        def after(known: _Known | None) -> _Known:
            own = known if known is not None and known.attempt == claims.attempt else None
            output, text = (own.output, own.text) if own is not None else (_Part(), None)
            record_body.check_room("checkpoint", part.size, output.size)
            return _Known(version="", attempt=claims.attempt, checkpoint=part, output=output, text=text)

        await self._put(claims, after, lambda: record_body.checkpoint_part(body))

    async def put_output(self, claims: TokenClaims, text: str) -> None:
        """Store this attempt's output.

        Raises:
            TooLarge: it does not fit beside the checkpoint.
            Fenced: a later attempt has written.
            QuotaExceeded: the task has no record yet, and a quota takes none.
            Unavailable: the API server does not take it now.
        """
        part = _Part(record_body.size_of_output(text), _digest(text.encode()))

        def after(known: _Known | None) -> _Known:
            checkpoint = known.checkpoint if known is not None else _Part()
            record_body.check_room("output", part.size, checkpoint.size)
            return _Known(version="", attempt=claims.attempt, checkpoint=checkpoint, output=part, text=_short(text))

        await self._put(claims, after, lambda: {"output": text})

    async def output(self, task: SeenTask, attempt: int) -> StoredOutput | None:
        """What this attempt has stored as its output; one read where another replica stored it, or we did before a restart.

        Raises:
            KubeError: the API server does not tell.
        """
        uid, name = task.uid, task.metadata.name
        async with self._turn(uid):
            if not _has_output(self._known.get(uid), attempt):
                try:
                    await self._look(task.namespace, name, uid)
                except _Strange as error:
                    logger.warning("%s: %s", task, error)
                    return None
            known = self._known.get(uid)
        if known is None or not _has_output(known, attempt):
            return None
        ref = OutputRef(kind=RECORD_KIND, name=record_body.record_name(name, uid), key="output")
        return StoredOutput(ref=ref, text=known.text)

    def forget(self, uid: str) -> None:
        """The task is final or gone."""
        self._known.pop(uid, None)
        self._turns.pop(uid, None)

    def _turn(self, uid: str) -> asyncio.Lock:
        return self._turns.setdefault(uid, asyncio.Lock())

    async def _put(self, claims: TokenClaims, after: Callable[[_Known | None], _Known], part: Callable[[], dict[str, str]]) -> None:
        async with self._turn(claims.uid):
            with _refusing():
                for _ in range(_LOOKS):
                    if claims.uid not in self._known and claims.attempt > 1:
                        await self._look(claims.namespace, claims.task, claims.uid)
                    known = self._known.get(claims.uid)
                    if known is not None:
                        _in_time(claims, known.attempt)
                    wanted = after(known)
                    if known is not None and wanted == msgspec.structs.replace(known, version=""):
                        return
                    version = await self._write(claims, known, part())
                    if version is not None:
                        self._known[claims.uid] = msgspec.structs.replace(wanted, version=version)
                        return
        raise Unavailable("the record is being written by others, again and again", retry_after=_TRY_AGAIN)

    async def _write(self, claims: TokenClaims, known: _Known | None, part: dict[str, str]) -> str | None:
        """The new version; None when the record is not as we knew it, and then it was looked at."""
        try:
            if known is None:
                posting = functools.partial(self._writer.create, records_path(claims.namespace), record_body.new_record(claims, part))
                answer = await self._quota.within(claims.namespace, posting)
            else:
                drop = known.attempt < claims.attempt and bool(known.output.digest)
                body = record_body.record_patch(claims, known.version, part, drop_output=drop)
                name = record_body.record_name(claims.task, claims.uid)
                answer = await self._writer.patch(record_path(claims.namespace, name), body)
        except (AlreadyExists, Conflict):
            await self._look(claims.namespace, claims.task, claims.uid)
            return None
        except NotFound:
            if known is None:
                raise
            self._known.pop(claims.uid, None)  # somebody deleted it: it is made anew
            return None
        return _decode_head(answer).metadata.resource_version

    async def _look(self, namespace: str, task: str, uid: str) -> AgentTaskRecord | None:
        """Read the record, and remember what it is."""
        name = record_body.record_name(task, uid)
        self._known.pop(uid, None)
        try:
            found = _decode(await self._writer.get(record_path(namespace, name)))
            known = _known(found)
        except NotFound:
            return None
        except (msgspec.MsgspecError, binascii.Error) as error:
            raise _Strange(f"record {name!r} cannot be read: {error}; delete it") from error
        if found.task_uid != uid:
            raise _Strange(f"a record {name!r} exists and is not this task's; delete it")
        self._known[uid] = known
        return found


def _known(found: AgentTaskRecord) -> _Known:
    checkpoint, output = found.checkpoint or "", found.output or ""
    raw = base64.b64decode(checkpoint)
    return _Known(
        version=found.metadata.resource_version,
        attempt=found.attempt,
        checkpoint=_Part(record_body.size_of_checkpoint(raw), _digest(raw)) if checkpoint else _Part(),
        output=_Part(record_body.size_of_output(output), _digest(output.encode())) if found.output is not None else _Part(),
        text=_short(output),
    )


def _has_output(known: _Known | None, attempt: int) -> bool:
    return known is not None and known.attempt == attempt and bool(known.output.digest)


def _in_time(claims: TokenClaims, writer: int) -> None:
    if claims.attempt < writer:
        raise Fenced(f"attempt {writer} of the task has written; attempt {claims.attempt} is over")


def _short(text: str) -> str | None:
    """The output, where the status has room for it."""
    return text if len(text) <= MAX_STATUS_OUTPUT_BYTES and len(text.encode()) <= MAX_STATUS_OUTPUT_BYTES else None


def _digest(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=16).digest()


@contextmanager
def _refusing() -> Iterator[None]:
    """What the API server says, in the gateway's words. The runner asks again after all of them but the size."""
    try:
        yield
    except TooManyRequests as error:
        raise Unavailable(f"the API server is busy: {error.message}", retry_after=error.retry_after or _TRY_AGAIN) from error
    except KubeError as error:
        if error.status == 413 or _STORE_REFUSES in error.message:
            raise TooLarge(f"the API server does not take the record: {error.message}. Write large results to a claim") from error
        logger.warning("a record cannot be stored: %s", error)
        raise Unavailable(f"the API server does not take the record: {error}", retry_after=_TRY_AGAIN) from error
    except _Strange as error:
        logger.warning("%s", error)
        raise Unavailable(str(error), retry_after=_FOR_A_PERSON) from error
