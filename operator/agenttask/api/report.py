"""The report: what an attempt tells the controller through its termination message, at most 4096 bytes.

The kubelet keeps the last 4096 bytes of the file, which is a bind mount, so it cannot be replaced by a rename: the
runner writes a length and the payload with one write at offset 0, and what an older, longer report left behind the
length is ignored. It is written after every step, so that it survives SIGKILL and an out-of-memory kill.
Everything here is hostile input for the controller: decoding is strict and bounded.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from agenttask.api.constants import MAX_REPORT_BYTES
from agenttask.api.output_store import MAX_OBJECT_URL
from agenttask.api.reasons import Reason

REPORT_VERSION = 1
PREFIX_BYTES = 6
"""Five digits and a newline: the payload's length in bytes."""
STEP_MESSAGE_CHARACTERS = 160
ERROR_MESSAGE_CHARACTERS = 1024
COST_CHARACTERS = 128
MOST_COUNTED = 2**53
"""Readers of JSON take larger whole numbers for fractions; an endpoint may count whatever it likes."""

StepCode = Literal["S", "F", "R", "K"]
"""Succeeded, Failed, Running, sKipped; a step that is not listed is pending."""


class StepReport(Struct, frozen=True, array_like=True):
    """One step by its index in the spec, as an array; times count from the run's start.

    New fields come last: a reader of another version skips what it does not know, and takes defaults for what is not there.
    """

    index: Annotated[int, Meta(ge=0, lt=64)]
    code: StepCode
    started_ms: Annotated[int, Meta(ge=0, le=MOST_COUNTED)] = 0
    duration_ms: Annotated[int, Meta(ge=0, le=MOST_COUNTED)] = 0
    message: Annotated[str, Meta(max_length=STEP_MESSAGE_CHARACTERS)] = ""
    tries: Annotated[int, Meta(ge=0, le=10**9)] = 0
    """With `retry` only; those of all items together."""
    items_ended: Annotated[int, Meta(ge=0, le=10**6)] = 0
    items: Annotated[int, Meta(ge=0, le=10**6)] = 0
    """Of `forEach`."""


class ErrorReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why the attempt failed; `step` is the index of the step at fault."""

    reason: Reason
    message: Annotated[str, Meta(max_length=ERROR_MESSAGE_CHARACTERS)]
    step: Annotated[int, Meta(ge=0, lt=64)] | None = None


class UsageReport(Struct, frozen=True, array_like=True):
    """Model calls, input tokens and output tokens so far, and what they cost, as `0.0123 USD`."""

    calls: Annotated[int, Meta(ge=0, le=MOST_COUNTED)] = 0
    input_tokens: Annotated[int, Meta(ge=0, le=MOST_COUNTED)] = 0
    output_tokens: Annotated[int, Meta(ge=0, le=MOST_COUNTED)] = 0
    cost: Annotated[str, Meta(max_length=COST_CHARACTERS)] = ""


class ObjectReport(Struct, frozen=True, array_like=True):
    """An output that was left in the object store: its whole address, its size in bytes, and its digest."""

    url: Annotated[str, Meta(max_length=MAX_OBJECT_URL)]
    size: Annotated[int, Meta(ge=0, le=MOST_COUNTED)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z", max_length=64)]


class Report(
    Struct,
    frozen=True,
    kw_only=True,
    rename={
        "version": "v",
        "attempt": "a",
        "started": "t",
        "done": "d",
        "steps": "s",
        "usage": "u",
        "error": "e",
        "output": "o",
        "output_stored": "k",
        "output_object": "r",
    },
    omit_defaults=True,
):
    """The state of one attempt; `done` is set once, in the last report, and then one of `error` and the outputs stands for good."""

    version: int = REPORT_VERSION
    attempt: int = 1
    started: Annotated[int, Meta(ge=0, le=2**53)] = 0
    """Unix milliseconds of the run's start."""
    done: bool = False
    steps: Annotated[tuple[StepReport, ...], Meta(max_length=64)] = ()
    usage: UsageReport = UsageReport()
    error: ErrorReport | None = None
    output: str | None = None
    output_stored: bool = False
    """The output was handed to the gateway instead."""
    output_object: ObjectReport | None = None
    """The output was left in the object store instead."""

    @property
    def handed_over(self) -> bool:
        """Whether the output is elsewhere."""
        return self.output_stored or self.output_object is not None


class ReportTooLarge(ValueError):
    """The report does not fit; `size` and `limit` are in bytes."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the report has {size} bytes, {limit} fit")
        self.size = size
        self.limit = limit


class MalformedReport(ValueError):
    """The termination message is no report of ours."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Report, strict=True)


def encode(report: Report) -> bytes:
    """Prefix and payload, ready for one write at offset 0.

    Raises:
        ReportTooLarge: more than the kubelet keeps; the caller decides what gives way.
    """
    payload = _payload(_shorten(report))
    if PREFIX_BYTES + len(payload) > MAX_REPORT_BYTES:
        raise ReportTooLarge(PREFIX_BYTES + len(payload), MAX_REPORT_BYTES)
    return b"%05d\n" % len(payload) + payload


def decode(message: str | bytes) -> Report:
    """The report in a termination message.

    Raises:
        MalformedReport: empty, cut, or not ours.
    """
    raw = message.encode() if isinstance(message, str) else message
    head, rest = raw[:PREFIX_BYTES], raw[PREFIX_BYTES:]
    if len(head) < PREFIX_BYTES or head[-1:] != b"\n" or not head[:-1].isdigit():
        raise MalformedReport("no length prefix")
    length = int(head[:-1])
    if length > len(rest):
        raise MalformedReport(f"{length} bytes announced, {len(rest)} there")
    try:
        report = _decoder.decode(rest[:length])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedReport(str(error)) from error
    if report.version != REPORT_VERSION:
        raise MalformedReport(f"report version {report.version}, this controller reads {REPORT_VERSION}")
    return report


def shorten(text: str, limit: int) -> str:
    """`text`, cut to `limit` characters with an ellipsis that shows the cut; messages only, never output."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def bounded(report: Report) -> Report:
    """The report with messages and counts within their bounds."""
    steps = tuple(msgspec.structs.replace(step, message=shorten(step.message, STEP_MESSAGE_CHARACTERS)) for step in report.steps)
    error = report.error
    if error is not None:
        error = msgspec.structs.replace(error, message=shorten(error.message, ERROR_MESSAGE_CHARACTERS))
    used = report.usage
    calls, read, written = (min(count, MOST_COUNTED) for count in (used.calls, used.input_tokens, used.output_tokens))
    usage = UsageReport(calls, read, written, shorten(used.cost, COST_CHARACTERS))
    return msgspec.structs.replace(report, steps=steps, usage=usage, error=error)


def _payload(report: Report) -> bytes:
    """JSON without the defaults that a reader fills in at the end of an array: every byte is one that the output may have."""
    plain = msgspec.to_builtins(report)
    for row in (*plain.get("s", ()), *([plain["u"]] if "u" in plain else [])):
        while row and row[-1] in (0, ""):
            row.pop()
    return _encoder.encode(plain)


def _shorten(report: Report) -> Report:
    """Within bounds; where the whole would not fit, step messages are dropped first, then tries and items."""
    short = bounded(report)
    for dropped in ({"message": ""}, {"tries": 0, "items_ended": 0, "items": 0}):
        if PREFIX_BYTES + len(_payload(short)) <= MAX_REPORT_BYTES:
            break
        short = msgspec.structs.replace(short, steps=tuple(msgspec.structs.replace(step, **dropped) for step in short.steps))
    return short
