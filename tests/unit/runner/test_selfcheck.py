"""An image's own look at itself: what it keeps of the contract, and what not."""

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

import pytest

from agenttask.api.constants import POD_UID
from agenttask.runner.bootstrap import run_document
from agenttask.runner.credentials import Credentials
from agenttask.runner.selfcheck import check


def real(environ: MutableMapping[str, str]) -> int:
    return run_document(Credentials(values={}), environ)


def findings(folder: Path, run=real, **environ: str) -> Mapping[str, str]:
    given = {"PATH": os.environ["PATH"], "AGENTTASK_WORKSPACE": str(folder), "AGENTTASK_SCRATCH": str(folder), **environ}
    return {finding.what: finding.line() for finding in check(given, run)}


def test_a_good_image_runs_a_whole_task(tmp_path: Path) -> None:
    found = findings(tmp_path)
    assert found["a task of three steps"] == "ok   a task of three steps: succeeded"
    assert found[str(tmp_path)] == f"ok   {tmp_path}: writable"
    assert found["Python"].startswith("ok")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    found = findings(tmp_path, AGENTTASK_WORKSPACE=str(tmp_path / "none"))
    assert found[str(tmp_path / "none")].startswith("FAIL")


@pytest.mark.parametrize(("uid", "right"), [(POD_UID, True), (0, False)])
def test_the_user_is_the_pods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, right: bool) -> None:
    monkeypatch.setattr(os, "getuid", lambda: uid)
    monkeypatch.setattr(os, "getgid", lambda: uid)
    assert findings(tmp_path)["user"].startswith("ok" if right else "FAIL") is True


def test_a_task_that_fails_is_told_with_its_reason(tmp_path: Path) -> None:
    found = findings(tmp_path, PATH="/nowhere")
    assert found["a task of three steps"].startswith("FAIL a task of three steps: StepFailed: step 'command'")


def test_a_runner_that_leaves_no_report_is_told(tmp_path: Path) -> None:
    assert findings(tmp_path, lambda environ: 7)["a task of three steps"].startswith(
        "FAIL a task of three steps: left no report (exit code 7)"
    )
