"""What the demo says of a task."""

from typing import Any

import pytest
from scripts.follow import considered, report, summary, took, unexpected
from scripts.table import columns, wrap

STATUS: dict[str, Any] = {
    "phase": "Succeeded",
    "reason": "Succeeded",
    "progress": "1/1",
    "output": "Paris.\nIt is in France.",
    "startTime": "2026-01-01T00:00:02Z",
    "completionTime": "2026-01-01T00:00:12Z",
    "device": {"class": "cpu", "considered": [{"class": "gpu", "verdict": "no node has one"}, {"class": "cpu", "verdict": "fits"}]},
}


def task(status: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "status": status}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, "Queued"),
        ({"phase": "Running", "progress": "1/3", "device": {"class": "cpu"}}, "Running 1/3 on cpu"),
        ({"phase": "Failed", "reason": "StepFailed", "message": "exited 3"}, "Failed (StepFailed) - exited 3"),
        ({"phase": "Succeeded", "reason": "Succeeded"}, "Succeeded"),
    ],
    ids=["new", "running", "failed", "succeeded"],
)
def test_a_status_is_one_line(status: dict[str, Any], expected: str) -> None:
    assert summary(status) == expected


def test_the_time_from_creation_and_the_time_of_the_pod_are_told_apart() -> None:
    assert took(STATUS, "2026-01-01T00:00:00Z") == "12 s (10 s)"
    assert took({}, "2026-01-01T00:00:00Z") == "-"


def test_the_classes_that_were_passed_by_are_named_with_their_verdict() -> None:
    assert considered(STATUS) == "cpu; gpu: no node has one"
    assert considered({}) == "-"


def test_the_report_has_the_table_and_the_outputs(capsys: pytest.CaptureFixture[str]) -> None:
    report(
        {"hello": task(STATUS), "broken": task({"phase": "Failed", "reason": "InvalidTemplate", "message": "no param"})},
        ["hello", "broken"],
    )
    shown = capsys.readouterr().out
    assert "hello   Succeeded  Succeeded        1/1    12 s (10 s)" in shown
    assert "InvalidTemplate" in shown
    assert "    It is in France." in shown


def test_a_broken_task_has_to_fail_and_the_others_to_succeed() -> None:
    failed, done = task({"phase": "Failed"}), task({"phase": "Succeeded"})
    assert unexpected({"rag": done, "broken": failed}, ["rag", "broken"]) == []
    assert unexpected({"rag": failed, "broken": done}, ["rag", "broken"]) == ["rag", "broken"]
    assert unexpected({}, ["rag"]) == ["rag"]


def test_long_cells_are_wrapped_below_their_head() -> None:
    assert list(columns([["A", "B"], ["x", "one two three"]], widths={1: 7})) == ["A  B", "x  one two", "   three"]


def test_line_breaks_of_a_text_stay() -> None:
    assert wrap("one\n\ntwo three", 5) == ["one", "", "two", "three"]
