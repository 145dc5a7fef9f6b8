"""Whatever a run is in the middle of, the file on disk is a report."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask.api.constants import MAX_REPORT_BYTES
from agenttask.api.errors import OutputTooLarge
from agenttask.api.reasons import Reason
from agenttask.api.report import ErrorReport, Report, StepReport, decode
from agenttask.runner.termination import LastReport, TerminationFile, fitting

texts = st.text(max_size=400)
steps = st.lists(
    st.builds(StepReport, st.integers(0, 63), st.sampled_from("SFRK"), st.integers(0, 10**9), st.integers(0, 10**9), texts), max_size=64
)
reports = st.builds(
    Report,
    attempt=st.integers(1, 9),
    started=st.integers(0, 2**50),
    steps=steps.map(tuple),
    error=st.none() | st.builds(ErrorReport, reason=st.sampled_from(Reason), message=texts, step=st.none() | st.integers(0, 63)),
)


@given(st.lists(reports, min_size=1, max_size=6))
def test_each_state_on_disk_is_the_report_written_last(tmp_path_factory: pytest.TempPathFactory, sequence: list[Report]) -> None:
    path = tmp_path_factory.getbasetemp() / "termination"
    channel = TerminationFile(path)
    for report in sequence:
        channel.write(report)
        raw = path.read_bytes()
        found = decode(raw)
        assert len(raw) <= MAX_REPORT_BYTES
        assert (found.attempt, [step.index for step in found.steps]) == (report.attempt, [step.index for step in report.steps])
    channel.close()


def test_an_output_that_does_not_fit_is_refused_and_the_report_before_stands(tmp_path: Path) -> None:
    channel = TerminationFile(tmp_path / "termination")
    before = Report(attempt=2, steps=(StepReport(0, "S"),))
    channel.write(before)
    with pytest.raises(OutputTooLarge, match=r"the output has 5000 bytes, 40\d\d fit .* 4096 bytes"):
        channel.write(Report(attempt=2, done=True, output="x" * 5000))
    channel.close()
    assert decode((tmp_path / "termination").read_bytes()) == before


def test_the_limit_that_the_message_names_is_true() -> None:
    with pytest.raises(OutputTooLarge) as caught:
        fitting(Report(done=True, output="x" * 5000))
    fits = int(str(caught.value).split("bytes, ")[1].split(" fit")[0])
    assert decode(fitting(Report(done=True, output="x" * fits))).output == "x" * fits


def test_messages_give_way_and_undecodable_names_arrive() -> None:
    error = ErrorReport(reason=Reason.STEP_FAILED, message="\x01" * 1024)
    steps = tuple(StepReport(index, "F", 10**9, 10**9, "\x01" * 160) for index in range(64))
    assert decode(fitting(Report(steps=steps, error=error))).error is not None
    assert decode(fitting(Report(steps=(StepReport(0, "F", 0, 0, "a\udcff"),)))).steps[0].message == "a?"


def test_a_run_on_a_laptop_has_no_limit() -> None:
    channel = LastReport()
    channel.write(Report(output="x" * 5000))
    assert channel.report.output == "x" * 5000
