"""`agenttask` as a process, with the built-in plugins: a real run, and Ctrl-C."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import yaml

AGENTTASK = [sys.executable, "-m", "agenttask.cli.main"]

TASK = """
apiVersion: agenttask.dev/v1alpha1
kind: AgentTask
metadata: {name: demo}
spec:
  inputs: [{name: notes, configMap: {name: notes}}]
  steps:
    - name: notes
      read: {paths: ["/inputs/notes/*.md"]}
    - name: copy
      write: {path: out/copy.txt, content: "{{ steps.notes.text }}!"}
    - name: show
      exec: {command: [cat, "{{ steps.copy.text }}"]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: notes}
data: {a.md: first, b.md: second}
"""


def test_a_task_of_built_in_steps_runs_to_its_result(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(TASK)
    done = subprocess.run([*AGENTTASK, "run", tmp_path / "task.yaml"], capture_output=True, text=True, check=False, timeout=240)
    assert (done.returncode, done.stdout) == (0, "first\nsecond!\n"), done.stderr
    assert "step show: started (exec)" in done.stderr


def test_ctrl_c_ends_the_command_too(tmp_path: Path) -> None:
    task = """
    apiVersion: agenttask.dev/v1alpha1
    kind: AgentTask
    metadata: {name: demo}
    spec: {steps: [{name: hang, exec: {command: [sh, -c, "echo $$ > pid; exec sleep 600"]}}]}
    """
    (tmp_path / "task.yaml").write_text(textwrap.dedent(task))
    command = [*AGENTTASK, "run", tmp_path / "task.yaml", "--workspace", tmp_path / "ws"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    pid = tmp_path / "ws" / "pid"
    end = time.monotonic() + 120
    while not (pid.exists() and pid.read_text().strip()) and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=120)
    assert process.returncode == 130, log
    assert not Path(f"/proc/{int(pid.read_text())}").exists()


def test_a_log_that_nobody_reads_stops_no_task(tmp_path: Path) -> None:
    loud = {"name": "loud", "exec": {"command": ["sh", "-c", "seq 1 40000 >&2"]}}
    last = {"name": "last", "write": {"path": "done", "content": "x"}}
    task = {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": "t"}, "spec": {"steps": [loud, last]}}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task))
    command = [*AGENTTASK, "run", "--workspace", tmp_path / "workspace", tmp_path / "task.yaml"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.wait(240) == 0
        assert process.stderr is not None
        assert len(process.stderr.read()) < 200_000  # what a pipe holds, and not all
    assert (tmp_path / "workspace" / "done").exists()
