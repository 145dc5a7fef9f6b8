"""The gateway: how a running attempt hands its checkpoint, a large output and its progress to the controller, over HTTPS.

A request carries the token of its attempt (`Authorization: Bearer`), and everything in it is hostile input for the
controller: bounded, read strictly, unknown fields refused. What the runner reads is the controller's word: there unknown
fields are skipped, because the two are rolled out apart.

    GET  /v1/checkpoint   200 the checkpoint of an earlier attempt (api/checkpoint.py), 404 where there is none
    PUT  /v1/checkpoint   204; the body is a checkpoint
    PUT  /v1/output       204; the body is the output, UTF-8; before the last report, which then says `output_stored`
    POST /v1/report       200 a ReportAnswer; the body is a LiveReport

Refusals have a Refusal as body: 400 malformed, 401 no valid token, 403 the attempt is over (stop, never try again),
404, 413 too large, 429 and 503 with Retry-After (503 also of a replica that is not the leader: ask the next address).
"""

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from agenttask.api.report import MOST_COUNTED, StepReport, UsageReport
from agenttask.api.steps import ResourceName

TOKEN_VERSION: Final = 1
MAX_TOKEN_CHARACTERS: Final = 2048
"""A token of the longest names has less than half of it."""

CHECKPOINT_PATH: Final = "/v1/checkpoint"
OUTPUT_PATH: Final = "/v1/output"
REPORT_PATH: Final = "/v1/report"

MAX_RECORD_BYTES: Final = 900 * 1024
"""Checkpoint and output of a task together."""
MAX_LIVE_REPORT_BYTES: Final = 128 * 1024
MAX_REPORTED_MODELS: Final = 64
FIRST_REPORT_SECONDS: Final = 2.0
"""An attempt that ends sooner, with an output that fits its termination message, never asks the gateway."""
REPORT_SECONDS: Final = 5.0
"""Between two reports of an attempt, unless the answer says otherwise."""

_Seconds = Annotated[float, Meta(ge=0, le=1e9)]


class TokenClaims(
    Struct, frozen=True, kw_only=True, rename={"namespace": "ns", "version": "v", "expires": "exp"}, forbid_unknown_fields=True
):
    """Whom a token speaks for: one attempt of one task, until `expires` (Unix seconds)."""

    version: int = TOKEN_VERSION
    namespace: Annotated[str, Meta(min_length=1, max_length=63)]
    task: Annotated[str, Meta(min_length=1, max_length=253)]
    uid: Annotated[str, Meta(min_length=1, max_length=128)]
    attempt: Annotated[int, Meta(ge=1, le=10**6)]
    expires: Annotated[int, Meta(ge=0, le=2**53)]


class ModelReport(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What this attempt saw of one AgentModel: ended calls and the seconds that they took together, since the attempt's start."""

    name: ResourceName
    calls: Annotated[int, Meta(ge=0, le=MOST_COUNTED)] = 0
    call_seconds: _Seconds = 0.0
    breaker_open_seconds: _Seconds = 0.0
    """How long its circuit breaker stays open from now on; 0 when it is closed."""


class LiveReport(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """How far the attempt is; everything counts from its start, so a report that is lost is made good by the next one."""

    started: Annotated[int, Meta(ge=0, le=2**53)] = 0
    """Unix milliseconds of the run's start, from which the steps' times count."""
    steps: Annotated[tuple[StepReport, ...], Meta(max_length=64)] = ()
    usage: UsageReport = UsageReport()
    models: Annotated[tuple[ModelReport, ...], Meta(max_length=MAX_REPORTED_MODELS)] = ()


class Share(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What this attempt may ask of a model, out of AgentModel's `limits`; None is no limit."""

    concurrent_calls: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


class ReportAnswer(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The shares by AgentModel (a model that is not named has no limits) and when the next report is welcome."""

    limits: dict[str, Share] = {}
    next_report_seconds: float = REPORT_SECONDS


class RefusalReason(StrEnum):
    """Why a request was refused."""

    MALFORMED = "Malformed"
    UNAUTHORIZED = "Unauthorized"
    FENCED = "Fenced"
    """The attempt is over, or another one runs by now."""
    NOT_FOUND = "NotFound"
    TOO_LARGE = "TooLarge"
    BUSY = "Busy"
    NOT_LEADER = "NotLeader"
    UNAVAILABLE = "Unavailable"
    """The API server does not take it now."""
    QUOTA_EXCEEDED = "QuotaExceeded"
    """A ResourceQuota of the namespace takes no further record; with 503 and Retry-After, as it may by and by."""


class Refusal(Struct, frozen=True, kw_only=True):
    """The body of every refusal: a sentence for the log, and the reason, one of RefusalReason (or a newer one)."""

    error: str
    reason: str = ""


encode_live_report: Final = msgspec.json.Encoder().encode
decode_live_report: Final = msgspec.json.Decoder(LiveReport, strict=True).decode
encode_answer: Final = msgspec.json.Encoder().encode
decode_answer: Final = msgspec.json.Decoder(ReportAnswer).decode
decode_refusal: Final = msgspec.json.Decoder(Refusal).decode
