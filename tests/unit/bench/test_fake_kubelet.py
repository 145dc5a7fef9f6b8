"""What the fake kubelet writes is what our controller reads as the end of a run."""

import json

from bench.control.fake_kubelet import statuses

from agenttask.api.report import decode


def test_a_running_pod_has_no_end() -> None:
    status = json.loads(statuses("runner", 100.0, None))["status"]
    assert status["phase"] == "Running"
    assert status["containerStatuses"][0]["state"] == {"running": {"startedAt": "1970-01-01T00:01:40Z"}}


def test_an_ended_pod_says_a_report_that_is_done() -> None:
    status = json.loads(statuses("runner", 100.0, 101.5))["status"]
    ended = status["containerStatuses"][0]["state"]["terminated"]
    report = decode(ended["message"])
    assert (status["phase"], ended["exitCode"]) == ("Succeeded", 0)
    assert (report.done, report.output, report.started, report.steps[0].duration_ms) == (True, "done", 100_000, 1500)
