"""The report fits its channel whatever happens, and nothing hostile gets through it."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask.api.constants import MAX_REPORT_BYTES
from agenttask.api.reasons import Reason
from agenttask.api.report import (
    ERROR_MESSAGE_CHARACTERS,
    ErrorReport,
    MalformedReport,
    Report,
    ReportTooLarge,
    StepReport,
    UsageReport,
    decode,
    encode,
)

REPORT = Report(
    attempt=1,
    started=1_764_000_000_000,
    done=True,
    steps=(StepReport(0, "S", 0, 12), StepReport(1, "F", 12, 30, "exited 3")),
    usage=UsageReport(1, 20, 30),
    error=ErrorReport(reason=Reason.STEP_FAILED, message="exited 3", step=1),
)


def test_a_report_survives_the_channel() -> None:
    assert decode(encode(REPORT)) == REPORT


def test_what_an_older_longer_report_left_behind_is_ignored() -> None:
    shorter = Report(started=1)
    on_disk = encode(shorter) + encode(REPORT)[len(encode(shorter)) :]
    assert decode(on_disk) == shorter


def test_an_output_that_does_not_fit_is_refused_with_size_and_limit() -> None:
    with pytest.raises(ReportTooLarge, match=r"the report has \d+ bytes, 4096 fit"):
        encode(Report(done=True, output="x" * MAX_REPORT_BYTES))


def test_a_long_error_message_is_shortened_visibly() -> None:
    error = decode(encode(Report(error=ErrorReport(reason=Reason.STEP_FAILED, message="é" * 5000)))).error
    assert error is not None
    assert (len(error.message), error.message[-1]) == (ERROR_MESSAGE_CHARACTERS, "…")


def test_step_messages_give_way_before_the_report_does_not_fit() -> None:
    steps = tuple(StepReport(index, "F", 10**9, 10**9, "m" * 160) for index in range(64))
    report = decode(encode(Report(steps=steps)))
    assert [step.message for step in report.steps] == [""] * 64


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        pytest.param("", "no length prefix", id="empty"),
        pytest.param("panic: oh no", "no length prefix", id="somebody else's words"),
        pytest.param("00099\n{}", "99 bytes announced, 2 there", id="cut"),
        pytest.param("00009\nnot json!", "malformed", id="not JSON"),
        pytest.param('00007\n{"v":9}', "report version 9, this controller reads 1", id="newer version"),
        pytest.param('00018\n{"s":[[64,"S",0]]}', "<= 63", id="step out of bounds"),
        pytest.param('00017\n{"u":[-1, 0, 0] }', ">= 0", id="negative usage"),
    ],
)
def test_what_is_no_report_is_told(message: str, problem: str) -> None:
    with pytest.raises(MalformedReport) as caught:
        decode(message)
    assert problem in str(caught.value)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(raw: bytes) -> None:
    with contextlib.suppress(MalformedReport):
        decode(raw)


@given(st.text(max_size=200), st.integers(0, 63), st.sampled_from(["S", "F", "R", "K"]))
def test_any_step_message_arrives_or_is_shortened(message: str, index: int, code: str) -> None:
    message = message.encode("utf-8", "replace").decode()
    step = msgspec.convert([index, code, 1, 2, message[:160]], StepReport)
    assert decode(encode(Report(steps=(step,)))).steps == (step,)
