"""Progress is kept in memory for the reconciler, wakes it when it is news, and asks for a write once in ten seconds."""

from agenttask.api.gateway import LiveReport, TokenClaims
from agenttask.api.report import Report, StepReport, UsageReport
from agenttask.controller.gateway.live import LiveReports

FIRST = TokenClaims(namespace="n", task="t", uid="u", attempt=1, expires=0)
SECOND = TokenClaims(namespace="n", task="t", uid="u", attempt=2, expires=0)
ONE = LiveReport(started=5, steps=(StepReport(0, "S", 0, 10),), usage=UsageReport(1, 2, 3))
TWO = LiveReport(started=5, steps=(StepReport(0, "S", 0, 10), StepReport(1, "R", 10)))


def test_a_report_is_shown_as_the_attempt_s_own() -> None:
    live = LiveReports(lambda _: None)
    live.take(FIRST, ONE)
    assert live.of("u", 1) == Report(attempt=1, started=5, steps=ONE.steps, usage=ONE.usage)
    assert live.of("u", 2) is None
    assert live.of("v", 1) is None


def test_only_news_wakes() -> None:
    woken: list[str] = []
    live = LiveReports(woken.append)
    for told in (ONE, ONE, TWO, TWO):
        live.take(FIRST, told)
    assert woken == ["u", "u"]


def test_the_next_attempt_takes_the_place() -> None:
    live = LiveReports(lambda _: None)
    live.take(FIRST, ONE)
    live.take(SECOND, TWO)
    assert (live.of("u", 1), len(live)) == (None, 1)


def test_a_write_is_due_ten_seconds_after_the_last() -> None:
    live = LiveReports(lambda _: None)
    assert live.due("u") == float("-inf")
    live.take(FIRST, ONE)
    live.written("u", 100.0)
    assert live.due("u") == 110.0


def test_nothing_is_kept_of_tasks_that_never_reported_or_are_over() -> None:
    live = LiveReports(lambda _: None)
    live.written("short", 1.0)
    live.take(FIRST, ONE)
    live.written("u", 1.0)
    live.forget("u")
    assert (live.due("short"), live.due("u"), len(live)) == (float("-inf"), float("-inf"), 0)


def test_an_output_without_a_record_is_told_when_it_is_offered_again_and_until_it_is_stored() -> None:
    woken: list[str] = []
    live = LiveReports(woken.append)
    live.no_room(FIRST, "full")
    assert (live.waits("u", 1), woken) == ("", [])
    live.no_room(FIRST, "full")
    live.no_room(FIRST, "still full")
    assert (live.waits("u", 1), live.waits("u", 2), woken) == ("still full", "", ["u"])
    live.no_room(SECOND, "full")
    assert (live.waits("u", 1), live.waits("u", 2)) == ("", "")
    live.no_room(SECOND, "full")
    live.kept("u")
    assert live.waits("u", 2) == ""
    for _ in range(2):
        live.no_room(SECOND, "full")
    live.forget("u")
    assert (live.waits("u", 2), woken) == ("", ["u"] * 3)
