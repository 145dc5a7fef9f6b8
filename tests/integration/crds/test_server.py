"""What a user of kubectl sees of the two kinds on a real API server."""

import json
from typing import Any

import pytest
from tests.fakes.kubectl import Kubectl

pytestmark = pytest.mark.cluster

TASK: dict[str, Any] = {
    "apiVersion": "agenttask.dev/v1alpha1",
    "kind": "AgentTask",
    "metadata": {"name": "seen"},
    "spec": {"steps": [{"name": "ask", "chat": {"model": "small", "prompt": "hi"}}]},
}
STATUS = {
    "phase": "Running",
    "reason": "PodRunning",
    "progress": "0/1",
    "attempt": 1,
    "device": {"class": "cpu"},
    "models": "small",
    "nodeName": "node-1",
    "usage": {"totalTokens": 42, "cost": "0.0123 USD"},
    "traceID": "0af7651916cd43dd8448eb211c80319c",
}


def _task(name: str, **spec: Any) -> dict[str, Any]:
    return TASK | {"metadata": {"name": name}, "spec": TASK["spec"] | spec}


def _set_status(kubectl: Kubectl, name: str, status: dict[str, Any]) -> None:
    kubectl.must("patch", "at", name, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))


@pytest.mark.parametrize("kind", ["agenttask", "agentmodel"])
def test_explain_knows_every_field(kubectl: Kubectl, kind: str) -> None:
    assert "steps\t<[]Object> -required-" in kubectl.must("explain", "agenttask.spec", "--recursive")
    published = json.loads(kubectl.must("get", "--raw", "/openapi/v3/apis/agenttask.dev/v1alpha1"))["components"]["schemas"]
    (schema,) = (each for name, each in published.items() if name.lower().endswith(f".{kind}"))
    blank = [path for path, node in _published(schema, kind) if not node.get("description") and not path.startswith(f"{kind}.metadata")]
    assert blank == []


def _published(node: dict[str, Any], path: str) -> list[tuple[str, dict[str, Any]]]:
    found = [(path, node)]
    for name, child in node.get("properties", {}).items():
        found += _published(child, f"{path}.{name}")
    return found + (_published(node["items"], path + "[]") if "items" in node else [])


@pytest.mark.parametrize(
    "path",
    [
        "agenttask.spec",
        "agenttask.spec.steps",
        "agenttask.spec.steps.exec.env",
        "agenttask.spec.steps.git.clone",
        "atm.spec.circuitBreaker",
        "agenttask.status",
        "atm.spec.local",
    ],
)
def test_explain_shows_no_blank_description(kubectl: Kubectl, path: str) -> None:
    assert "<no description>" not in kubectl.must("explain", path)


def test_names_short_names_and_category(kubectl: Kubectl) -> None:
    kubectl.must("create", "-f", "-", stdin=TASK)
    for name in ("at", "agenttask", "agenttasks.agenttask.dev", "agents"):
        assert kubectl.must("get", name, "-o", "name").split() == ["agenttask.agenttask.dev/seen"]
    assert kubectl.must("get", "atm", "-o", "name") == ""


def test_columns_of_a_task(kubectl: Kubectl) -> None:
    kubectl.must("create", "-f", "-", stdin=TASK)
    _set_status(kubectl, "seen", STATUS)
    head, row = kubectl.must("get", "at").splitlines()
    assert head.split() == ["NAME", "PHASE", "REASON", "PROGRESS", "DEVICE", "ATTEMPT", "AGE"]
    assert row.split()[:6] == ["seen", "Running", "PodRunning", "0/1", "cpu", "1"]
    head, row = kubectl.must("get", "at", "-o", "wide").splitlines()
    assert head.split()[7:] == ["QUEUE", "PRIORITY", "MODELS", "TOKENS", "COST", "NODE", "TRACE"]
    assert row.split()[7:] == ["default", "0", "small", "42", "0.0123", "USD", "node-1", STATUS["traceID"]]


def test_columns_of_a_model(kubectl: Kubectl) -> None:
    spec = {"client": "openai", "model": "m-1", "endpoint": "https://models.example.com/v1"}
    kubectl.must("create", "-f", "-", stdin=TASK | {"kind": "AgentModel", "spec": spec})
    head, row = kubectl.must("get", "atm").splitlines()
    assert head.split() == ["NAME", "CLIENT", "MODEL", "ENDPOINT", "AGE"]
    assert row.split()[:4] == ["seen", "openai", "m-1", "https://models.example.com/v1"]


def test_tasks_are_selected_by_phase(kubectl: Kubectl) -> None:
    for name, phase in (("one", "Running"), ("two", "Succeeded"), ("three", None)):
        kubectl.must("create", "-f", "-", stdin=_task(name))
        if phase:
            _set_status(kubectl, name, {"phase": phase})
    assert kubectl.must("get", "at", "--field-selector=status.phase=Running", "-o", "name").split() == ["agenttask.agenttask.dev/one"]
    unfinished = kubectl.must("get", "at", "--field-selector=status.phase!=Succeeded,status.phase!=Failed", "-o", "name")
    assert unfinished.split() == ["agenttask.agenttask.dev/one", "agenttask.agenttask.dev/three"]
    assert "field label not supported: status.reason" in kubectl("get", "at", "--field-selector=status.reason=x").stderr


def test_wait_for_a_condition_works(kubectl: Kubectl) -> None:
    kubectl.must("create", "-f", "-", stdin=TASK)
    condition = {"type": "Complete", "status": "True", "reason": "Succeeded", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    _set_status(kubectl, "seen", {"conditions": [condition]})
    assert "condition met" in kubectl.must("wait", "--for=condition=Complete", "at/seen", "--timeout=120s")


def test_the_server_fills_in_the_defaults(kubectl: Kubectl) -> None:
    made = json.loads(kubectl.must("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=TASK))["spec"]
    assert made == {
        "steps": [{"name": "ask", "parallelism": 1, "chat": {"model": "small", "prompt": "hi", "maxTokens": 512}}],
        "queue": "default",
        "priority": 0,
        "suspend": False,
        "cancel": False,
        "workspace": {"sizeLimit": "1Gi"},
        "device": {"strategy": "auto", "fallbackAfterSeconds": 60},
        "execution": {"threading": "async", "maxConcurrentSteps": 10, "atMostOnce": False},
        "retry": {
            "maxInfrastructureRestarts": 10,
            "limit": 0,
            "backoff": {"initialSeconds": 5, "factor": 2, "maxSeconds": 300},
        },
        "pendingDeadlineSeconds": 3600,
        "activeDeadlineSeconds": 3600,
    }


def test_status_is_not_written_with_the_object(kubectl: Kubectl) -> None:
    kubectl.must("create", "-f", "-", stdin=TASK | {"status": STATUS})
    assert "status" not in json.loads(kubectl.must("get", "at", "seen", "-o", "json"))


def test_kubectl_refuses_an_unknown_field_by_its_path(kubectl: Kubectl) -> None:
    done = kubectl("apply", "-f", "-", stdin=_task("seen", retries=3))
    assert done.returncode == 1
    assert 'unknown field "spec.retries"' in done.stderr


def test_the_server_warns_of_an_unknown_field_and_drops_it(kubectl: Kubectl) -> None:
    done = kubectl("create", "--validate=warn", "-o", "json", "-f", "-", stdin=_task("seen", retries=3))
    assert 'Warning: unknown field "spec.retries"' in done.stderr
    assert "retries" not in json.loads(done.stdout)["spec"]


def test_a_field_below_an_open_object_is_kept(kubectl: Kubectl) -> None:
    step = {"name": "shout", "plugin": {"kind": "shout", "with": {"any": [{"thing": 1.5}]}}}
    made = json.loads(kubectl.must("create", "-o", "json", "-f", "-", stdin=_task("seen", steps=[step])))
    assert made["spec"]["steps"] == [step | {"parallelism": 1}]


def test_the_largest_task_that_the_store_holds_passes_every_rule(kubectl: Kubectl) -> None:
    """64 steps that need all before them, 64 variables each, texts up to the 1.5 MiB of a request: CEL must not run out of budget."""
    names = [f"{n:02d}-" + "s" * 60 for n in range(64)]
    steps = [
        {
            "name": name,
            "needs": names[:n],
            "exec": {"command": ["x" * 160] * 64, "env": [{"name": f"V{v}", "value": "y" * 16} for v in range(64)]},
        }
        for n, name in enumerate(names)
    ]
    inputs = [{"name": f"i{n:02d}-" + "i" * 59, "configMap": {"name": "c" * 253}} for n in range(32)]
    params = {f"p{n}": "z" * 2048 for n in range(64)}
    largest = _task("n" * 253, steps=steps, inputs=inputs, params=params, output="o" * 16384)
    assert 1_100_000 < len(json.dumps(largest)) < 1_500_000
    kubectl.must("create", "-f", "-", stdin=largest)
    kubectl.must("label", "at", largest["metadata"]["name"], "seen=yes")
    _set_status(kubectl, largest["metadata"]["name"], {"phase": "Succeeded", "output": "o" * 16384})
    again = kubectl(
        "replace",
        "--dry-run=server",
        "-f",
        "-",
        stdin=_task(largest["metadata"]["name"], steps=steps[:1], inputs=inputs, params=params, output="o" * 16384),
    )
    assert "steps cannot be changed after creation" in again.stderr


def test_sixty_four_chats_of_sixteen_models_pass_every_rule(kubectl: Kubectl) -> None:
    """Models of one step are compared with each other: the longest names there may be."""
    models = [f"{n:02d}" + "m" * 251 for n in range(16)]
    asked = {"models": models, "prompt": "p", "messages": [{"role": "User", "content": "x" * 64}] * 64, "stop": ["a", "b", "c", "d"]}
    chats = [
        {"name": f"{n:02d}-" + "s" * 60, "needs": [], "forEach": "{{ params.list }}", "parallelism": 64, "chat": asked} for n in range(64)
    ]
    kubectl.must("create", "-f", "-", stdin=_task("many", steps=chats))
    kubectl.must("label", "at", "many", "seen=yes")
