"""Mistakes are found offline, each with its file, its object and its field."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agenttask.cli.schemas import Schemas, packaged_schemas

Write = Callable[..., Path]


def task(spec: dict[str, Any] | None = None, **body: Any) -> dict[str, Any]:
    steps = [{"name": "docs", "read": {"paths": ["x"]}}]
    return {
        "apiVersion": "agenttask.dev/v1alpha1",
        "kind": "AgentTask",
        "metadata": {"name": "demo"},
        "spec": {"steps": steps, **(spec or {})},
        **body,
    }


def model(**spec: Any) -> dict[str, Any]:
    body = {"client": "answering", "model": "m", **spec}
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentModel", "metadata": {"name": "small"}, "spec": body}


def steps(*given: dict[str, Any]) -> dict[str, Any]:
    return task({"steps": list(given)})


def test_what_is_right_is_said_so(agenttask: Any, file: Write) -> None:
    path = file(task(), model(), {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}})
    said = agenttask("validate", path)
    assert (said.code, said.out.splitlines()) == (
        0,
        ["AgentTask demo: valid, 1 step", "AgentModel small: valid", f"{path}: document 3 (ConfigMap c): not checked"],
    )


def test_a_name_that_the_server_will_make_is_a_name(agenttask: Any, file: Write) -> None:
    path = file(task(metadata={"generateName": "review-"}), task(metadata={"generateName": "review-"}))
    said = agenttask("validate", path)
    assert (said.code, said.out.splitlines()) == (0, ["AgentTask review-1: valid, 1 step", "AgentTask review-2: valid, 1 step"])


def test_a_mistake_below_such_a_name_is_told_with_it(agenttask: Any, file: Write) -> None:
    path = file(task({"retries": 3}, metadata={"generateName": "review-"}))
    assert agenttask("validate", path).err.startswith(f"{path}: document 1 (AgentTask review-): spec.retries: unknown field")


def test_amounts_may_be_whole_numbers_and_times_templates(agenttask: Any, file: Write) -> None:
    step = {"name": "a", "forEach": "{{ [1, 2] }}", "timeoutSeconds": "{{ item }}", "read": {"paths": ["x"]}}
    resources = {"limits": {"cpu": 2, "memory": 1073741824, "ephemeral-storage": "1Gi"}}
    path = file(task({"steps": [step], "workspace": {"sizeLimit": 1000000000}, "pod": {"resources": resources}}))
    assert agenttask("validate", path).err == ""


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        pytest.param(task({"retries": 3}), "spec.retries: unknown field 'retries'; known: activeDeadlineSeconds", id="unknown field"),
        pytest.param(task({"ouput": "x"}), "spec.ouput: unknown field 'ouput'; known: ", id="misspelt field"),
        pytest.param(task({"ouput": "x"}), "did you mean 'output'?", id="nearest field"),
        pytest.param(steps({"name": "a", "read": {"path": ["x"]}}), "spec.steps[0].read.path: unknown field 'path'", id="nested"),
        pytest.param(steps({"name": "a", "read": {}}), "spec.steps[0].read.paths: is missing", id="required"),
        pytest.param(steps({"name": "a\n", "read": {"paths": ["x"]}}), "spec.steps[0].name: 'a\\n' does not match", id="end of line"),
        pytest.param(steps({"name": "A", "read": {"paths": ["x"]}}), "spec.steps[0].name: 'A' does not match", id="pattern"),
        pytest.param(task({"params": {"n": 3}}), "spec.params.n: 3 is no string", id="type"),
        pytest.param(task({"steps": []}), "spec.steps: has 0 entries, at least 1 is allowed", id="too few"),
        pytest.param(task({"steps": [{"name": "a"}] * 65}), "spec.steps: has 65 entries, at most 64 are allowed", id="too many"),
        pytest.param(task({"output": "x" * 16385}), "has 16385 characters, at most 16384 are allowed", id="too long"),
        pytest.param(task({"activeDeadlineSeconds": 0}), "spec.activeDeadlineSeconds: 0: at least 1 is allowed", id="too small"),
        pytest.param(model(client="local", local={"package": "p", "dtype": "Half"}), "'Half' is none of Auto, Float32", id="enum"),
        pytest.param(
            steps({"name": "a", "read": {"paths": ["x"]}, "chat": {"model": "m", "prompt": "hi"}}),
            "spec.steps[0]: exactly one of",
            id="two kinds",
        ),
        pytest.param(
            steps({"name": "a", "needs": ["b"], "read": {"paths": ["x"]}}, {"name": "b", "read": {"paths": ["x"]}}), "a → b → a", id="cycle"
        ),
        pytest.param(steps({"name": "a", "chat": {"model": "m", "prompt": "{{ steps.nope.text }}"}}), "'nope'", id="unknown step"),
        pytest.param(steps({"name": "a", "chat": {"model": "m", "prompt": "{{ 'a' * 3 }}"}}), "spec.steps[0].chat.prompt", id="arithmetic"),
        pytest.param(steps({"name": "a", "plugin": {"kind": "ecco"}}), "'ecco'", id="unknown kind"),
        pytest.param(model(client="local"), "spec.local: client local needs local", id="local without weights"),
        pytest.param(
            steps({"name": "a", "read": {"paths": ["x"]}, "timeoutSeconds": 1.5}),
            "spec.steps[0].timeoutSeconds: 1.5 is no integer or string",
            id="neither number nor text",
        ),
        pytest.param(
            steps({"name": "a", "read": {"paths": ["x"]}, "timeoutSeconds": 0}), "timeoutSeconds: 0: at least 1 is allowed", id="no time"
        ),
        pytest.param(
            steps({"name": "a", "read": {"paths": ["x"]}, "timeoutSeconds": True}), "True is no integer or string", id="yes for a time"
        ),
        pytest.param(
            steps({"name": "a", "chat": {"model": "m", "prompt": "hi", "temperature": 0.7}}),
            'spec.steps[0].chat.temperature: 0.7 is no string; write it in quotes, as "0.7"',
            id="number without quotes",
        ),
        pytest.param(
            task({"pod": {"resources": {"limits": {"cpu": "two"}}}}), "spec.pod.resources.limits.cpu: 'two' does not match", id="amount"
        ),
        pytest.param(
            steps({"name": "a", "read": {"paths": ["x"]}, "keepFiles": ["*.md", "*.md"]}),
            "spec.steps[0].keepFiles[1]: '*.md' stands twice in the list",
            id="twice in a set",
        ),
        pytest.param(
            task({"inputs": [{"name": "a", "configMap": {"name": "x"}}, {"name": "a", "configMap": {"name": "y"}}]}),
            "spec.inputs[1]: 'a' stands twice in the list",
            id="twice in a map",
        ),
        pytest.param(task({"softDeadlineSeconds": 3600}), "spec.softDeadlineSeconds: 3600 is not less than", id="soft deadline"),
        pytest.param(model(fallback=["big", "small"]), "spec.fallback: 'small' cannot be its own fallback", id="own fallback"),
        pytest.param(
            model(client="local", local={"persistentVolumeClaim": {"claimName": "c", "path": "a/../.."}}),
            "spec.local.persistentVolumeClaim.path: 'a/../..' leaves the claim",
            id="out of the claim",
        ),
        pytest.param(model(client="openai"), "spec.endpoint: client openai needs endpoint", id="openai without endpoint"),
        pytest.param(
            model(local={"package": "p", "path": "/w"}),
            "spec.local: exactly one of package, path, persistentVolumeClaim and hub",
            id="two weights",
        ),
        pytest.param({**task(), "kind": "AgentTsk"}, "kind: 'AgentTsk' is none of AgentModel, AgentQueue, AgentTask", id="kind"),
        pytest.param({**task(), "apiVersion": "agenttask.dev/v1"}, "'agenttask.dev/v1' is not 'agenttask.dev/v1alpha1'", id="version"),
        pytest.param({**task(), "metadata": {}}, "metadata.name: is missing", id="name"),
        pytest.param({**task(), "metadata": "demo"}, "metadata.name: is missing", id="metadata"),
        pytest.param({"a": 1}, "apiVersion and kind are needed", id="no object of Kubernetes"),
    ],
)
def test_a_mistake_is_told_with_its_place(agenttask: Any, file: Write, body: dict[str, Any], problem: str) -> None:
    path = file(model(), body)
    said = agenttask("validate", path)
    assert said.code == 2
    assert said.err.startswith(f"{path}: document 2")
    assert problem in said.err


def test_every_mistake_of_all_files_is_told_at_once(agenttask: Any, file: Write) -> None:
    first, second = file(task({"a": 1, "b": 2})), file(model(client="local"))
    said = agenttask("validate", first, second)
    assert [line.split(": ")[0] for line in said.err.splitlines()] == [str(first), str(first), str(second)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("a: [", "line 1, column 5: ", id="no YAML"),
        pytest.param("a: " + "[" * 5000, "is nested too deeply", id="nested"),
        pytest.param("# only words", "there is no object to check", id="empty"),
        pytest.param("a: 1\nb: 2\na: 3", "line 3, column 1: the key 'a' stands twice", id="a key twice"),
        pytest.param("- 1", "document 1: is no object but list", id="a list"),
        pytest.param("a: \x01", "special characters are not allowed", id="control character"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line(agenttask: Any, file: Write, text: str, problem: str) -> None:
    path = file(text)
    said = agenttask("validate", path)
    assert (said.code, said.err.startswith(f"{path}: ")) == (2, True)
    assert problem in said.err


def test_files_that_cannot_be_read_are_told(agenttask: Any, tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"a: \xe9")
    said = agenttask("validate", tmp_path / "none", tmp_path / "latin")
    assert (said.code, said.err.splitlines()) == (
        2,
        [f"{tmp_path / 'none'}: cannot be read: No such file or directory", f"{tmp_path / 'latin'}: is not UTF-8: byte at offset 3"],
    )


def test_a_list_is_its_items_an_empty_document_is_none_and_a_date_is_text(agenttask: Any, file: Write) -> None:
    path = file({"apiVersion": "v1", "kind": "List", "items": [task(), model()]}, "", "# only words")
    dated = file(
        "apiVersion: agenttask.dev/v1alpha1\nkind: AgentTask\nmetadata: {name: d}\n"
        "spec: {params: {day: 2025-01-01}, steps: [{name: a, read: {paths: [x]}}]}"
    )
    assert agenttask("validate", path, dated).out.splitlines() == [
        "AgentTask demo: valid, 1 step",
        "AgentTask d: valid, 1 step",
        "AgentModel small: valid",
    ]


def test_merge_keys_do_not_count_as_repeated(agenttask: Any, file: Write) -> None:
    text = (
        "apiVersion: agenttask.dev/v1alpha1\nkind: AgentTask\nmetadata: {name: d}\n"
        "spec:\n  steps:\n    - &a {name: a, read: {paths: [x]}}\n    - {<<: *a, name: b}"
    )
    assert agenttask("validate", file(text)).code == 0


def test_the_examples_of_the_schemas_are_those_of_the_crds() -> None:
    assert list(packaged_schemas().kinds) == ["AgentModel", "AgentQueue", "AgentTaskRecord", "AgentTask"]


def test_installed_schemas_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "crds").mkdir()
    monkeypatch.setattr("agenttask.cli.schemas.files", lambda name: tmp_path)
    found = packaged_schemas()
    assert isinstance(found, Schemas)
    assert found.kinds == {}
