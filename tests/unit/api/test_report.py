"""The report fits its channel whatever happens, and nothing hostile gets through it."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from agenttask.api.constants import MAX_REPORT_BYTES
from agenttask.api.reasons import Reason
from agenttask.api.report import (
    ERROR_MESSAGE_CHARACTERS,
    MOST_COUNTED,
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


def test_tries_and_items_give_way_where_messages_are_not_enough() -> None:
    steps = tuple(StepReport(index, "F", 10**9, 10**9, "m", 10**6, 10**4, 10**4) for index in range(64))
    error = ErrorReport(reason=Reason.STEP_FAILED, message="e" * 1024)
    report = decode(encode(Report(steps=steps, error=error)))
    assert report.error == error
    assert report.steps == tuple(StepReport(index, "F", 10**9, 10**9) for index in range(64))


def test_tries_items_and_cost_survive_the_channel() -> None:
    report = Report(steps=(StepReport(0, "S", 0, 12, "", 4, 3, 5),), usage=UsageReport(1, 2, 3, "0.0123 USD"))
    assert decode(encode(report)) == report


def test_more_tokens_than_a_report_counts_are_the_most_that_it_does() -> None:
    counted = msgspec.structs.replace(REPORT, usage=UsageReport(1, 10**20, MOST_COUNTED + 1, "2.0000 USD"))
    assert decode(encode(counted)).usage == UsageReport(1, MOST_COUNTED, MOST_COUNTED, "2.0000 USD")


def test_what_a_reader_knows_by_itself_takes_no_bytes() -> None:
    report = Report(steps=(StepReport(0, "S"), StepReport(1, "S", 0, 7), StepReport(2, "S", 0, 0, "", 2)), usage=UsageReport(1, 0, 4))
    assert encode(report)[6:] == b'{"s":[[0,"S"],[1,"S",0,7],[2,"S",0,0,"",2]],"u":[1,0,4]}'
    assert decode(encode(report)) == report


def test_reports_of_older_and_newer_runners_are_read() -> None:
    def framed(payload: bytes) -> bytes:
        return b"%05d\n" % len(payload) + payload

    older = decode(framed(b'{"s":[[0,"S",0,12,"note"]],"u":[1,2,3]}'))
    assert (older.steps, older.usage) == ((StepReport(0, "S", 0, 12, "note"),), UsageReport(1, 2, 3))
    newer = decode(framed(b'{"s":[[0,"S",0,12,"note",4,3,5,"more"]],"u":[1,2,3,"1 USD",9],"x":1}'))
    assert (newer.steps, newer.usage) == ((StepReport(0, "S", 0, 12, "note", 4, 3, 5),), UsageReport(1, 2, 3, "1 USD"))


def test_a_runner_before_items_is_read_by_this_one_and_reads_what_it_writes() -> None:
    class OldStep(Struct, frozen=True, array_like=True):
        index: int
        code: str
        started_ms: int = 0
        duration_ms: int = 0
        message: str = ""

    raw = msgspec.json.encode(StepReport(3, "S", 1, 2, "m", 4, 5, 6))
    assert msgspec.json.decode(raw, type=OldStep) == OldStep(3, "S", 1, 2, "m")


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
        pytest.param('00033\n{"s":[[0,"S",0,0,"",-1,9999999]]}', ">= 0", id="negative tries"),
        pytest.param('00032\n{"s":[[0,"S",0,0,"",1,9999999]]}', "<= 1000000", id="too many items"),
        pytest.param('00416\n{"s":[[0,"S",' + "9" * 400 + "]]}", "<= 9007199254740992", id="a start that no clock has"),
        pytest.param('00418\n{"s":[[0,"S",0,' + "9" * 400 + "]]}", "<= 9007199254740992", id="a step without end"),
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
