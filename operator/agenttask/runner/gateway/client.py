"""The gateway's four requests, over all of its replicas, each with a time in which it is answered or fails typed.

A replica that cannot be reached, fails, or is not the leader makes way for the next one at once; when all did, the client waits
(doubling, a random half left out, or as long as a Retry-After says) and asks them all again. Every request may be sent twice:
each says the whole of what it is about.
"""

import asyncio
import itertools
import random
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

import msgspec

from agenttask.api.checkpoint import MAX_CHECKPOINT_BYTES
from agenttask.api.document import GatewayDocument
from agenttask.api.gateway import (
    CHECKPOINT_PATH,
    MAX_RECORD_BYTES,
    OUTPUT_PATH,
    REPORT_PATH,
    LiveReport,
    Refusal,
    RefusalReason,
    ReportAnswer,
    decode_answer,
    decode_refusal,
    encode_live_report,
)
from agenttask.api.report import shorten
from agenttask.runner.gateway.addresses import Addresses, Resolve, resolve
from agenttask.runner.gateway.errors import Fenced, GatewayRefused, GatewayUnavailable, QuotaExceeded, RecordTooLarge
from agenttask.runner.gateway.exchange import Answer, Exchange, Method, NoAnswer

_OK: Final = 200
_NO_CONTENT: Final = 204
_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404
_TOO_LARGE: Final = 413
_TOO_MANY: Final = 429
_SERVER_ERRORS: Final = 500

_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"
_MAX_ANSWER_BYTES: Final = 64 * 1024
_FIRST_PAUSE_SECONDS: Final = 0.25
_SHORTEST_PAUSE_SECONDS: Final = 0.1
"""Whatever a server wishes."""
_LONGEST_PAUSE_SECONDS: Final = 5.0
_DOUBLINGS: Final = 10
_QUOTA_PAUSE_SECONDS: Final = 5.0
_REFUSAL_CHARACTERS: Final = 300
_QUOTA_CHARACTERS: Final = 700
"""Its name alone may have 253."""


class GatewayClient:
    """For one attempt.

    Args:
        document: where the gateway is.
        token: the attempt's.
        fenced: told once, when the controller says that the attempt is over.
        resolve: the addresses of a name.
        rng: from 0 up to 1.

    Raises:
        GatewayRefused: the document's URL is none.
    """

    def __init__(
        self,
        document: GatewayDocument,
        token: str,
        *,
        fenced: Callable[[Fenced], None],
        resolve: Resolve = resolve,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._exchange = Exchange(document, token)
        self._addresses = Addresses(self._exchange.host, self._exchange.port, resolve=resolve, rng=rng)
        self._fenced = fenced
        self._over: Fenced | None = None
        self._rng = rng

    async def checkpoint(self, *, seconds: float) -> bytes | None:
        """What an earlier attempt has left; None where there is nothing. All methods raise GatewayError, and take `seconds` at most."""
        answer = await self._ask("GET", CHECKPOINT_PATH, None, seconds=seconds, largest=MAX_CHECKPOINT_BYTES + 1)
        if answer.status == _NOT_FOUND:
            return None
        self._expect(answer, _OK)
        return answer.body

    async def keep_checkpoint(self, raw: bytes, *, seconds: float) -> None:
        """Leave it to the next attempt."""
        _fits(raw, "checkpoint")
        self._expect(await self._ask("PUT", CHECKPOINT_PATH, raw, seconds=seconds), _NO_CONTENT)

    async def keep_output(self, output: bytes, *, seconds: float) -> None:
        """The task's output as UTF-8, where it is larger than the termination message."""
        _fits(output, "output")
        self._expect(await self._ask("PUT", OUTPUT_PATH, output, seconds=seconds, content_type=_TEXT), _NO_CONTENT)

    async def report(self, report: LiveReport, *, seconds: float) -> ReportAnswer:
        """Tell how far the attempt is; the answer has its shares of the models' limits."""
        answer = await self._ask("POST", REPORT_PATH, encode_live_report(report), seconds=seconds)
        self._expect(answer, _OK)
        try:
            return decode_answer(answer.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise GatewayRefused(f"the answer to a report is none: {error}") from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._exchange.aclose()

    async def _ask(
        self, method: Method, path: str, body: bytes | None, *, seconds: float, content_type: str = _JSON, largest: int = _MAX_ANSWER_BYTES
    ) -> Answer:
        """The answer of the replica that has one."""
        if self._over is not None:
            raise self._over
        problems: dict[str, str] = {}
        ends = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout(seconds):
                for tries in itertools.count():
                    found = await self._round(method, path, body, content_type=content_type, largest=largest, problems=problems)
                    if isinstance(found, Answer):
                        return found
                    full = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(tries, _DOUBLINGS))
                    pause = full * (1 - self._rng() / 2) if found is None else max(_SHORTEST_PAUSE_SECONDS, found) * (1 + self._rng() / 10)
                    if asyncio.get_running_loop().time() + pause >= ends:
                        break  # waiting would only end later in the same way
                    await asyncio.sleep(pause)
        except TimeoutError:
            problems.setdefault("", f"no answer within {seconds:.0f} s")
        told = "; ".join(f"{address}: {problem}" if address else problem for address, problem in problems.items())
        raise GatewayUnavailable(f"the gateway did not take {method} {path} within {seconds:.0f} s: {told}")

    async def _round(
        self, method: Method, path: str, body: bytes | None, *, content_type: str, largest: int, problems: dict[str, str]
    ) -> Answer | float | None:
        """Ask each replica once: the answer, or after how many seconds somebody wishes to be asked again, or None."""
        wishes: list[float] = []
        try:
            async with aclosing(self._addresses.in_turn()) as addresses:
                async for address in addresses:
                    try:
                        answer = await self._exchange.ask(address, method, path, body, content_type=content_type, largest=largest)
                    except NoAnswer as error:
                        self._addresses.failed(address)
                        problems[address] = str(error)
                        continue
                    if answer.status != _TOO_MANY and answer.status < _SERVER_ERRORS:
                        self._addresses.answered(address)
                        return answer
                    if (refusal := _refusal(answer)) is not None and refusal.reason == RefusalReason.QUOTA_EXCEEDED:
                        self._addresses.answered(address)
                        wish = answer.retry_after if answer.retry_after is not None else _QUOTA_PAUSE_SECONDS
                        raise QuotaExceeded(shorten(refusal.error, _QUOTA_CHARACTERS), retry_after=max(_SHORTEST_PAUSE_SECONDS, wish))
                    problems[address] = _told(answer)
                    if answer.retry_after is not None:
                        wishes.append(answer.retry_after)
                    if answer.status == _TOO_MANY:
                        break  # it is the leader who says so
                    self._addresses.failed(address)
        except OSError as error:
            problems[""] = f"its name cannot be looked up: {error}"
        return min(wishes, default=None)

    def _expect(self, answer: Answer, status: int) -> None:
        if answer.status == status:
            return
        if answer.status == _FORBIDDEN:
            self._over = Fenced(f"the controller has ended this attempt: {_told(answer)}")
            self._fenced(self._over)
            raise self._over
        if answer.status == _TOO_LARGE:
            raise RecordTooLarge(_told(answer))
        raise GatewayRefused(_told(answer))


def _fits(raw: bytes, what: str) -> None:
    if len(raw) > MAX_RECORD_BYTES:
        raise RecordTooLarge(f"the {what} has {len(raw)} bytes, at most {MAX_RECORD_BYTES} are kept of a task")


def _told(answer: Answer) -> str:
    """The refusal in words, whatever its body is."""
    refusal = _refusal(answer)
    return f"status {answer.status}" + (f": {shorten(refusal.error, _REFUSAL_CHARACTERS)}" if refusal is not None else "")


def _refusal(answer: Answer) -> Refusal | None:
    try:
        return decode_refusal(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
