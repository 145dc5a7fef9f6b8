"""A task runs on a laptop with what the files and the command line give it."""

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Write = Callable[..., Path]


def of_kind(kind: str, name: str, **body: Any) -> dict[str, Any]:
    ours = kind.startswith("Agent")
    return {"apiVersion": "agenttask.dev/v1alpha1" if ours else "v1", "kind": kind, "metadata": {"name": name}, **body}


def task(*steps: dict[str, Any], name: str = "demo", **spec: Any) -> dict[str, Any]:
    return of_kind("AgentTask", name, spec={"steps": list(steps), **spec})


def echo(name: str = "say", **fields: Any) -> dict[str, Any]:
    return {"name": name, "plugin": {"kind": "echo", "with": fields}}


MODEL = of_kind("AgentModel", "small", spec={"client": "answering", "model": "gpt-x"})
DOCS = {"name": "docs", "configMap": {"name": "docs"}}
ASK = {"name": "ask", "chat": {"model": "small", "prompt": "hi"}}
READ = {"name": "read", "read": {"paths": ["/inputs/docs/*"]}}


def test_a_task_runs_to_its_output_with_its_progress_beside_it(agenttask: Any, file: Write) -> None:
    found = task(
        READ,
        {"name": "ask", "chat": {"model": "small", "prompt": "{{ params.q }} {{ steps.read.text }}"}},
        {"name": "note", "write": {"path": "out/n.txt", "content": "{{ steps.ask.text }}"}},
        params={"q": "?"},
        inputs=[DOCS],
        output="{{ steps.ask.text }} {{ steps.read.files['/inputs/docs/a.md'] }}",
    )
    config = of_kind("ConfigMap", "docs", data={"a.md": "A"}, binaryData={"b.bin": "Qg=="})
    said = agenttask("run", file(found, MODEL, config), "--param", "q=why")
    assert (said.code, said.out) == (0, "gpt-x: why A\nB A\n")
    assert [re.sub(r"^\S+ ", "", line).split(" after")[0] for line in said.err.splitlines()][:3] == [
        "task demo: attempt 1 started, 3 steps",
        "step read: started (read)",
        "step read: succeeded",
    ]
    assert "step note: writing" in said.err


def test_the_json_is_the_tasks_status(agenttask: Any, file: Write) -> None:
    said = agenttask("run", "--json", file(task(ASK, echo("bad", fail="oh"), echo("never")), MODEL))
    status = json.loads(said.out)
    times = [status.pop(name) for name in ("startTime", "completionTime")]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time) for time in times)
    assert [(step["name"], step["phase"], step.get("message")) for step in status.pop("steps")] == [
        ("ask", "Succeeded", None),
        ("bad", "Failed", "step kind 'echo' failed with RuntimeError: oh"),
        ("never", "Skipped", "cancelled because step 'bad' failed"),
    ]
    assert (said.code, status) == (
        1,
        {
            "phase": "Failed",
            "reason": "StepFailed",
            "message": "step 'bad': step kind 'echo' failed with RuntimeError: oh",
            "attempt": 1,
            "progress": "1/3",
            "usage": {"calls": 1, "inputTokens": 3, "outputTokens": 4, "totalTokens": 7},
        },
    )


def test_a_failure_is_told_with_its_reason_and_step(agenttask: Any, file: Write) -> None:
    said = agenttask("run", file(task(echo(fail="oh"))))
    assert (said.code, said.out) == (1, "")
    assert said.err.splitlines()[-1] == "StepFailed: step 'say': step kind 'echo' failed with RuntimeError: oh"


def test_a_long_output_is_whole_here_and_the_cluster_is_warned_of(agenttask: Any, file: Write) -> None:
    said = agenttask("run", file(task(echo(text="x" * 5000))))
    assert (said.code, said.out) == (0, "x" * 5000 + "\n")
    assert "note: in a cluster this output needs the gateway or an object store, else it is OutputTooLarge: the output has 5000" in said.err


def test_a_folder_stands_in_for_an_input(agenttask: Any, file: Write, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("mine")
    claim = {"name": "docs", "persistentVolumeClaim": {"claimName": "c"}}
    for source in (DOCS, claim):
        assert agenttask("run", file(task(READ, inputs=[source])), "--input", f"docs={tmp_path / 'mine'}").out == "mine\n"


def test_a_workspace_stays_when_asked_for(agenttask: Any, file: Write, tmp_path: Path) -> None:
    path = file(task({"name": "n", "write": {"path": "n.txt", "content": "x"}}))
    assert agenttask("run", path, "--workspace", tmp_path / "ws").out == f"{tmp_path / 'ws' / 'n.txt'}\n"
    assert (tmp_path / "ws" / "n.txt").read_text() == "x"
    kept = agenttask("run", path, "--keep")
    assert f"workspace: {Path(kept.out.strip()).parent}" in kept.err
    assert Path(kept.out.strip()).read_text() == "x"
    gone = agenttask("run", path)
    assert not Path(gone.out.strip()).parent.exists()


@pytest.mark.parametrize("flag", ["--workspace", "--checkpoint"])
def test_a_folder_that_cannot_be_made_is_told_before_anything_runs(agenttask: Any, file: Write, tmp_path: Path, flag: str) -> None:
    taken = tmp_path / "taken"
    taken.write_text("")
    said = agenttask("run", file(task(echo())), flag, taken)
    assert (said.code, said.out, said.err) == (2, "", f"{flag} '{taken}' cannot be made or written: File exists\n")


def test_a_full_disk_is_told_before_anything_runs(agenttask: Any, file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    said = agenttask("run", file(task(echo())))
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("a temporary folder in ")
    assert said.err.endswith("cannot be made or written: No space left on device; write less, or raise `workspace.sizeLimit`\n")


def test_a_watch_has_its_own_checkpoints(agenttask: Any, file: Write, tmp_path: Path) -> None:
    said = agenttask("run", file(task(echo())), "--watch", "--checkpoint", tmp_path / "cp")
    assert (said.code, said.err.split(":")[0]) == (2, "--checkpoint")


@pytest.mark.parametrize(
    ("objects", "arguments", "problem"),
    [
        pytest.param([MODEL], [], "no AgentTask is in the files", id="no task"),
        pytest.param([task(echo()), task(echo())], [], "two AgentTasks are called 'demo'; rename one", id="two of one name"),
        pytest.param([task(echo()), task(echo(), name="b")], ["--param", "a=b"], "no task has a param 'a'", id="param of none"),
        pytest.param([task(echo())], ["--max-tasks", "0"], "'0' is no whole number from 1 to 100000", id="no task at once"),
        pytest.param(
            [task(ASK), of_kind("AgentModel", "small", spec={"client": "answering", "model": "m", "fallback": ["other"]})],
            [],
            "AgentModel small: spec.fallback[0]: no AgentModel 'other' is in the files",
            id="fallback",
        ),
        pytest.param([task(echo())], ["--task", "x"], "no AgentTask 'x' is in the files; there are: demo", id="another task"),
        pytest.param([task(echo())], ["--param", "a=b"], "the task has no param 'a'", id="param"),
        pytest.param([task(echo())], ["--input", "a=."], "the task has no input 'a'", id="input of nobody"),
        pytest.param([task(READ, inputs=[DOCS])], ["--input", "docs=/nowhere"], "'/nowhere' is no folder", id="no folder"),
        pytest.param([task(READ, inputs=[DOCS])], [], "ConfigMap 'docs' is not in the files; add it, or give --input", id="no ConfigMap"),
        pytest.param(
            [task(READ, inputs=[{"name": "docs", "persistentVolumeClaim": {"claimName": "c"}}])], [], "give --input docs=DIR", id="a claim"
        ),
        pytest.param(
            [task(READ, inputs=[DOCS]), of_kind("ConfigMap", "docs", data={"../x": "a"})],
            [],
            "'../x' is no key of a ConfigMap",
            id="bad key",
        ),
        pytest.param([task(READ, inputs=[DOCS]), of_kind("ConfigMap", "docs", binaryData={"x": "?"})], [], "is no base64", id="bad base64"),
        pytest.param(
            [task(READ, inputs=[DOCS]), of_kind("ConfigMap", "docs", data={"x": 1})], [], "is a mapping of strings", id="bad value"
        ),
        pytest.param(
            [task({"name": "ask", "chat": {"model": "smal", "prompt": "hi"}}), MODEL],
            [],
            "spec.steps[0].chat.model: no AgentModel 'smal' is in the files; there are: small; did you mean 'small'?",
            id="model",
        ),
        pytest.param([task(echo(), pod={"env": [{"name": "CPU_THREADS", "value": "x"}]})], [], "CPU_THREADS: 'x'", id="setting"),
    ],
)
def test_what_a_task_lacks_is_told_before_it_runs(
    agenttask: Any, file: Write, objects: list[dict[str, Any]], arguments: list[str], problem: str
) -> None:
    said = agenttask("run", file(*objects), *arguments)
    assert (said.code, said.out) == (2, "")
    assert problem in said.err


def test_an_argument_that_is_no_pair_is_told(agenttask: Any, file: Write) -> None:
    said = agenttask("run", file(task(echo())), "--param", "novalue")
    assert (said.code, "'novalue' is not name=value" in said.err) == (2, True)


@pytest.mark.parametrize("source", ["secret", "variable", "nowhere"])
def test_credentials_come_from_a_secret_in_the_files_or_from_a_variable(
    agenttask: Any, file: Write, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = {"secretKeyRef": {"name": "keys", "key": "api.key"}}
    objects = [
        task({"name": "ask", "chat": {"model": "safe", "prompt": "hi"}}),
        of_kind("AgentModel", "safe", spec={"client": "answering", "model": "m", "credentials": reference}),
    ]
    if source == "secret":
        objects.append(of_kind("Secret", "keys", stringData={"api.key": "k"}))
    if source == "variable":
        monkeypatch.setenv("AGENTTASK_SECRET_KEYS_API_KEY", "k")
    said = agenttask("run", file(*objects))
    assert said.code == (2 if source == "nowhere" else 0)
    assert ("set the variable AGENTTASK_SECRET_KEYS_API_KEY" in said.err) == (source == "nowhere")


def test_a_commands_secret_reaches_its_step(agenttask: Any, file: Write) -> None:
    env = [{"name": "TOKEN", "secretKeyRef": {"name": "keys", "key": "t"}}, {"name": "MODE", "value": "x"}]
    found = task({"name": "cli", "exec": {"command": ["true"], "env": env}}, {"name": "other", "exec": {"command": ["true"]}})
    missing = agenttask("run", file(found))
    assert (missing.code, "spec.steps[0].exec.env[0].secretKeyRef: Secret 'keys' with key 't' is not in the files" in missing.err) == (
        2,
        True,
    )
    given = agenttask("run", file(found, of_kind("Secret", "keys", data={"t": "czNjcmV0"})))
    assert (given.code, given.out) == (0, "other: \n")
    assert "cli: TOKEN=s3cret" in given.err


def test_several_tasks_run_side_by_side_each_in_a_workspace_of_its_own(agenttask: Any, file: Write, tmp_path: Path) -> None:
    note = {"name": "n", "write": {"path": "n.txt", "content": "{{ task.name }} {{ params.q }}"}}
    tasks = [task(note, name=name, params={"q": "-"}) for name in ("a", "b", "c")]
    said = agenttask("run", file(*tasks), "--workspace", tmp_path / "ws", "--param", "q=why", "--max-tasks", "2")
    assert said.code == 0
    assert said.out.split("\n")[:2] == ["==> a <==", f"{tmp_path / 'ws' / 'a' / 'n.txt'}"]
    assert [(tmp_path / "ws" / name / "n.txt").read_text() for name in ("a", "b", "c")] == ["a why", "b why", "c why"]
    assert "b: step n: writing" in said.err


def test_of_several_tasks_the_chosen_ones_run(agenttask: Any, file: Write) -> None:
    tasks = [task(echo(text=name), name=name) for name in ("a", "b", "c")]
    said = agenttask("run", file(*tasks), "--task", "c", "--task", "a")
    assert (said.code, said.out) == (0, "==> a <==\na\n==> c <==\nc\n")


def test_the_json_of_several_tasks_is_a_list_and_the_first_failure_gives_the_exit_code(agenttask: Any, file: Write) -> None:
    bad = task({"name": "ask", "chat": {"model": "m", "prompt": "{{ params.x | tojson }}"}}, name="bad", params={"x": "y"})
    model = of_kind("AgentModel", "m", spec={"client": "nobody", "model": "m"})
    said = agenttask("run", "--json", file(task(echo(text="x"), name="good"), bad, task(echo(fail="oh"), name="worse"), model))
    items = json.loads(said.out)["items"]
    assert [(one["metadata"]["name"], one["status"]["reason"]) for one in items] == [
        ("good", "Succeeded"),
        ("bad", "UnknownPlugin"),
        ("worse", "StepFailed"),
    ]
    assert said.code == 2  # of the first that failed, in the order of the files
    assert said.err.splitlines()[-2].startswith("bad: UnknownPlugin: ")


def test_the_active_deadline_holds_without_a_cluster(agenttask: Any, file: Write) -> None:
    said = agenttask("run", file(task(echo(seconds=60), activeDeadlineSeconds=1)))
    assert (said.code, said.err.splitlines()[-1]) == (6, "DeadlineExceeded: ran longer than activeDeadlineSeconds, 1 s")
    assert "task demo: failed with DeadlineExceeded" in said.err


def test_what_is_installed_and_which_version_can_be_asked(agenttask: Any) -> None:
    said = agenttask("plugins")
    assert said.out.splitlines()[0] == "device strategies:    auto"
    assert "agenttask 0.1.0" in said.out.splitlines()[-1]
    assert agenttask("version").out == "0.1.0\n"
