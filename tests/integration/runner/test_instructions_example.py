"""The flow of instructions, as the example has it, run by `agenttask run` as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "instructions.yaml"
AGENTTASK = [sys.executable, "-m", "agenttask.cli.main"]


def run(*options: str | Path, file: Path = EXAMPLE) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*AGENTTASK, "run", file, *options], capture_output=True, text=True, check=False, timeout=240)


def changed(folder: Path, *changes: tuple[str, str]) -> Path:
    """The example with other words in it."""
    text = EXAMPLE.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "instructions.yaml").write_text(text)
    return folder / "instructions.yaml"


@pytest.mark.parametrize("threading", ["async", "hybrid"])
def test_instructions_of_a_model_are_carried_out_one_by_one(tmp_path: Path, threading: str) -> None:
    file = changed(tmp_path, ("  steps:\n", f"  execution: {{threading: {threading}}}\n  steps:\n"))
    done = run("--json", "--workspace", tmp_path / "ws", file=file)
    assert done.returncode == 0, done.stderr
    status: dict[str, Any] = json.loads(done.stdout)
    assert status["output"] == (
        "shorten: accepted\n"
        "greet: accepted (Before: shorten: accepted\nFailed: exited 1: the connection was lost)\n"
        "---\nWelcome!\nInstall it.\nThen run it.\n"
    )
    edits = next(step for step in status["steps"] if step["name"] == "edits")
    assert (edits["items"], edits["tries"]) == ("2/2", 3)
    started = [line.split(" ", 1)[1] for line in done.stderr.splitlines() if "started (" in line]
    assert started[:3] == ["step documents: started (read)", "step analysis: started (chat)", "step agent: started (read)"]
    assert "step edits item 2: the connection was lost" in done.stderr
    assert not _living(str(tmp_path / "ws"))


def test_an_instruction_that_is_never_done_fails_the_task_with_the_reason(tmp_path: Path) -> None:
    file = changed(
        tmp_path,
        ("file.write(answer[5:])", "time.sleep(60)"),
        ('\\"timeout\\": 60', '\\"timeout\\": 10'),
        ("time.sleep(0.5)  # thinking", "pass"),
        ("retry: {limit: 2, backoff: {initialSeconds: 1}}", "retry: {limit: 1, backoff: {initialSeconds: 1}}"),
        ('      timeoutSeconds: "{{ item.timeout }}"\n      retry', "      retry"),
    )
    done = run("--workspace", tmp_path / "ws", file=file)
    assert done.returncode == 1
    assert (
        "step edits item 1: try 1 of 2 failed: wait file 'project/done-0.json' was there, but not right within 10 s: it is no JSON"
        in done.stderr
    )
    assert "item 1 of 2: wait file 'project/done-0.json' was there, but not right within 10 s" in done.stderr.splitlines()[-1]
    assert not _living(str(tmp_path / "ws"))


def _living(text: str) -> list[str]:
    """Command lines of processes whose working folder is below a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if str((entry / "cwd").readlink()).startswith(text):
                    found.append((entry / "cmdline").read_text())
            except OSError:
                continue
    return found
