"""The real programs with a collector: what a pod's runner and `agenttask run` send, and what they hand on."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.llm_server import llm_server
from tests.fakes.otlp_sink import OtlpSink, SeenSpan

from agenttask.telemetry.ids import parse_traceparent, span_ref

UID = "2f9d9f0e-8a53-4a0e-9d55-5d8f7f4c1e11"
POD = span_ref(UID, 1, "pod")
CANARY = "canary-91aa"
STEPS = [
    {"name": "ask", "chat": {"model": "small", "prompt": f"say {CANARY}"}},
    {"name": "edit", "needs": [], "exec": {"command": ["sh", "-c", "echo $TRACEPARENT $OTEL_EXPORTER_OTLP_HEADERS"]}},
]


def clean(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "K8S_"))}
    return {**kept, **more}


async def run(*command: str, environ: dict[str, str], cwd: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *command, env=environ, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await asyncio.wait_for(process.communicate(), 240)
    return process.returncode or 0, out.decode()


def named(spans: list[SeenSpan], name: str) -> SeenSpan:
    (found,) = [span for span in spans if span.name == name]
    return found


@pytest.fixture
def pod(tmp_path: Path) -> dict[str, str]:
    """The variables that put the runner's files into a folder."""
    found = {}
    for name in ("workspace", "inputs", "scratch"):
        (tmp_path / name).mkdir()
        found[f"AGENTTASK_{name.upper()}"] = str(tmp_path / name)
    return {**found, "AGENTTASK_DOCUMENT": str(tmp_path / "document.json"), "AGENTTASK_TERMINATION": str(tmp_path / "termination")}


def document(path: str, endpoint: str) -> None:
    model = {"name": "small", "client": "openai", "model": "gpt-small", "endpoint": endpoint}
    task: dict[str, Any] = {
        "version": 1,
        "task": {"name": "demo", "namespace": "n", "uid": UID},
        "spec": {"steps": STEPS},
        "models": [model],
    }
    Path(path).write_text(json.dumps(task))


async def test_a_pods_spans_hang_under_its_pod_and_requests_and_commands_carry_them_on(tmp_path: Path, pod: dict[str, str]) -> None:
    with OtlpSink() as sink:
        async with llm_server() as llm:
            document(pod["AGENTTASK_DOCUMENT"], llm.endpoint)
            environ = clean(
                **pod,
                TRACEPARENT=POD.traceparent(),
                OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
                OTEL_EXPORTER_OTLP_HEADERS="a=secret",
                OTEL_RESOURCE_ATTRIBUTES="k8s.pod.name=demo-1",
            )
            code, log = await run("agenttask.runner.main", environ=environ, cwd=tmp_path)
        assert code == 0, log
        spans = sink.wait_for(4)
        assert CANARY.encode() not in b"".join(sink.bodies)
    call, ask, edit, root = (named(spans, name) for name in ("chat gpt-small", "step chat", "step exec", "invoke_agent"))
    assert [span.parent_id for span in (root, ask, edit, call)] == [POD.span_id, root.span_id, root.span_id, ask.span_id]
    assert {span.trace_id for span in spans} == {POD.trace_id}
    assert (root.resource["service.name"], root.resource["k8s.pod.name"]) == ("agenttask-runner", "demo-1")
    assert call.attributes["gen_ai.usage.output_tokens"] > 0
    sent = {name.lower(): value for name, value in llm.headers[0].items()}
    seen = parse_traceparent(sent["traceparent"])
    assert seen is not None
    assert seen.span_id == call.span_id
    told = json.loads((tmp_path / "termination").read_bytes()[6:])["o"]
    assert told.strip() == f"00-{POD.trace_id}-{edit.span_id}-01"


async def test_without_an_endpoint_no_request_and_no_command_knows_of_a_trace(tmp_path: Path, pod: dict[str, str]) -> None:
    async with llm_server() as llm:
        document(pod["AGENTTASK_DOCUMENT"], llm.endpoint)
        code, log = await run("agenttask.runner.main", environ=clean(**pod), cwd=tmp_path)
    assert code == 0, log
    assert "traceparent" not in {name.lower() for name in llm.headers[0]}
    assert json.loads((tmp_path / "termination").read_bytes()[6:])["o"].strip() == ""
    assert "opentelemetry" not in log


async def test_a_collector_that_is_not_there_costs_a_pod_one_line(tmp_path: Path, pod: dict[str, str]) -> None:
    async with llm_server() as llm:
        document(pod["AGENTTASK_DOCUMENT"], llm.endpoint)
        environ = clean(**pod, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
        code, log = await run("agenttask.runner.main", environ=environ, cwd=tmp_path)
    assert code == 0, log
    assert log.count("spans are not exported") == 1, log
    assert "Traceback" not in log


async def test_agenttask_run_is_a_trace_of_its_own(tmp_path: Path) -> None:
    task = {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": "demo"}, "spec": {"steps": STEPS[1:]}}
    (tmp_path / "task.json").write_text(json.dumps(task))
    with OtlpSink() as sink:
        code, log = await run(
            "agenttask.cli.main", "run", "task.json", environ=clean(OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint), cwd=tmp_path
        )
        assert code == 0, log
        spans = sink.wait_for(2)
    assert named(spans, "invoke_agent").parent_id == ""
    assert named(spans, "step exec").parent_id == named(spans, "invoke_agent").span_id
    assert spans[0].resource["service.name"] == "agenttask-run"
