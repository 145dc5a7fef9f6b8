"""Each rule of the CRDs on a real API server: one object that it lets pass, one that it refuses with its message."""

import json
from typing import Any

import pytest
from tests.fakes.kubectl import Kubectl
from tests.unit.crds.rule_cases import ACCEPTED, CHAT, REFUSED, model, steps, task
from tests.unit.crds.schema_walk import load, nodes, schema

pytestmark = pytest.mark.cluster

FINAL = "phase is final once it is Succeeded, Failed or Cancelled"
CANCELLED = "a cancelled task stays cancelled"
ONLY = "only priority, suspend and cancel can be changed after creation; delete the task and create it anew"
"""What the rule says of itself; the server says which field it was."""
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
    "softDeadlineSeconds": 50,
    "activeDeadlineSeconds": 60,
    "queue": "nightly",
    "managedBy": "agenttask.dev/controller",
    "retry": {"limit": 1},
    "ttlSecondsAfterFinished": 60,
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
    "softDeadlineSeconds": 1,
    "activeDeadlineSeconds": 61,
    "queue": "daily",
    "managedBy": "example.com/other",
    "retry": {"limit": 2},
    "ttlSecondsAfterFinished": 61,
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
    return f"spec: Invalid value: {field} cannot be changed after creation; delete the task and create it anew"


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


def test_priority_and_suspend_may_change_and_cancel_once(kubectl: Kubectl) -> None:
    kubectl.must("create", "-f", "-", stdin=task(**FULL))
    for change in ({"priority": 5}, {"suspend": True}, {"priority": 6, "suspend": False}, {"cancel": True}):
        assert _spec(kubectl, change) == ""
    for taken_back in (False, None):
        assert f"spec.cancel: Invalid value: false: {CANCELLED}" in _spec(kubectl, {"cancel": taken_back})


@pytest.mark.parametrize("status", [None, {"phase": "Running"}], ids=["no status", "a status"])
def test_no_write_of_the_spec_can_pass_for_one_of_the_status(kubectl: Kubectl, status: dict[str, Any] | None) -> None:
    """The rule steps aside for writes of the status; the server takes a status at its own address only."""
    kubectl.must("create", "-f", "-", stdin=task(**FULL))
    if status is not None:
        assert _status(kubectl, status) == ""
    both = task(**FULL | {"output": "other"}) | {"status": {"phase": "Queued"}}
    patch = json.dumps({"spec": both["spec"], "status": both["status"]})
    assert _refusal("output") in _replace(kubectl, both)
    assert _refusal("output") in kubectl("patch", "at", "case", "--type=merge", "-p", patch).stderr
    assert _refusal("output") in kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=both).stderr
    assert kubectl("patch", "at", "case", "--subresource=status", "--type=merge", "-p", patch).stderr == ""
    assert json.loads(kubectl.must("get", "at", "case", "-o", "json"))["spec"]["output"] == FULL["output"]


def _spec(kubectl: Kubectl, change: dict[str, Any]) -> str:
    """What the server says to a patch of the spec; empty when it takes it."""
    return kubectl("patch", "at", "case", "--type=merge", "-p", json.dumps({"spec": change})).stderr


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
        for plural in ("agenttasks", "agentmodels", "agentqueues")
        for _, node in nodes(schema(load(plural)))
        for rule in node.get("x-kubernetes-validations", [])
    }
    tried = {case.values[2] for case in REFUSED} | {FINAL, CANCELLED, ONLY}
    assert rules <= tried
