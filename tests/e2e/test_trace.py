"""With an OTLP endpoint, the whole life of a real task is one trace in a real OTLP server."""

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.e2e.cluster import Namespace
from tests.e2e.conftest import install, model, uninstall
from tests.e2e.held import held, let_go
from tests.phoenix.install import python_of_phoenix
from tests.phoenix.server import Phoenix

pytestmark = pytest.mark.cluster
STORED_SECONDS = 120
"""Phoenix stores what it was sent when it comes to it."""
CONTROLLERS = "app.kubernetes.io/component=controller"
SPEC = {
    "steps": [
        {"name": "ask", "chat": {"model": "echo", "prompt": "a prompt that no span may hold"}},
        {"name": "note", "write": {"path": "note.txt", "content": "{{ steps.ask.text }}"}},
        {"name": "context", "exec": {"command": ["sh", "-c", "echo $TRACEPARENT"]}},
    ]
}


@pytest.fixture(scope="module")
def phoenix(node_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phoenix]:
    """Phoenix on the node's address, where pods reach it."""
    with Phoenix(python_of_phoenix(print), tmp_path_factory.mktemp("phoenix"), host=node_address) as server:
        yield server


@pytest.fixture(scope="module")
def traced(phoenix: Phoenix, cluster_environment: dict[str, str], images: Mapping[str, str]) -> Iterator[Namespace]:
    """An installation that sends its spans there."""
    namespace = Namespace(name=f"trace-{secrets.token_hex(3)}", environment=cluster_environment)
    try:
        install(namespace, images, **{"telemetry.otlpEndpoint": phoenix.endpoint})
        namespace.apply(model("echo", {"client": "scripted", "model": "echo", "parameters": {"reply": "an answer that no span may hold"}}))
        yield namespace
    finally:
        uninstall(namespace)


def test_a_task_is_one_trace_from_its_creation_to_its_completion(traced: Namespace, phoenix: Phoenix, tmp_path: Path) -> None:
    traced.apply({"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": "traced"}, "spec": SPEC})
    status = traced.ended("traced")
    assert status["phase"] == "Succeeded", status
    spans = phoenix.wait_for(status["traceID"], 8, seconds=STORED_SECONDS)
    names = {span.span_id: span.name for span in spans}
    tree = sorted((names.get(span.parent_id or "", "-"), span.name) for span in spans)
    assert tree == [
        ("-", "RUN AgentTask"),
        ("RUN AgentTask", "pod"),
        ("RUN AgentTask", "queue"),
        ("invoke_agent", "step chat"),
        ("invoke_agent", "step exec"),
        ("invoke_agent", "step write"),
        ("pod", "invoke_agent"),
        ("step chat", "chat echo"),
    ]
    (call,) = [span for span in spans if span.name == "chat echo"]
    assert {key for key in call.attributes if key.startswith("gen_ai.usage")} == {
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
    }
    assert status["output"].split("-")[1] == status["traceID"]
    assert not [span for span in spans if "no span may hold" in repr(span)]


def test_a_task_whose_controllers_restart_is_one_trace_without_orphans(traced: Namespace, phoenix: Phoenix) -> None:
    """Both replicas go while the task runs; who comes after them ends the trace that they began."""
    steps = [held("long", "echo $TRACEPARENT")]
    body = {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": "restarted"}, "spec": {"steps": steps}}
    traced.apply(body)
    before = traced.until("restarted", lambda status: status.get("phase") == "Running", seconds=120)

    traced.kubectl("delete", "pod", "-l", CONTROLLERS, "--force", "--grace-period=0")
    let_go(traced, before["podName"])
    status = traced.ended("restarted", seconds=300)
    traced.kubectl("rollout", "status", "deployment/agenttask-agenttask-operator", "--timeout=180s", timeout=240)

    assert (status["phase"], status["attempt"], status["podName"]) == ("Succeeded", 1, before["podName"]), status
    assert before["traceID"] == status["traceID"] == status["output"].split("-")[1]
    spans = phoenix.wait_for(status["traceID"], 5, seconds=STORED_SECONDS)
    names = {span.span_id: span.name for span in spans}
    assert len(names) == len(spans)
    assert sorted((names.get(span.parent_id or "", "an orphan" if span.parent_id else "-"), span.name) for span in spans) == [
        ("-", "RUN AgentTask"),
        ("RUN AgentTask", "pod"),
        ("RUN AgentTask", "queue"),
        ("invoke_agent", "step exec"),
        ("pod", "invoke_agent"),
    ]
