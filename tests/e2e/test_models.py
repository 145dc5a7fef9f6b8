"""How models are called from real pods: several at once, answers of a shape, fallback and breaker, cost, HTTP/2, and weights in the pod."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.e2e.cluster import Namespace
from tests.e2e.conftest import endpoint_pod, model
from tests.e2e.test_tasks import task

pytestmark = pytest.mark.cluster

EDITS = {"type": "object", "required": ["edits"], "properties": {"edits": {"type": "array", "items": {"type": "string"}}}}
LARGE = {"resources": {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "3Gi"}}}
QUESTIONS = ("What is the capital of France?", "Name a colour.", "What do cats eat?")


def chat(name: str, asked: str, prompt: str, /, **more: Any) -> dict[str, Any]:
    """A step that asks one model."""
    common = {key: more.pop(key) for key in ("needs", "forEach", "continueOnError") if key in more}
    return {"name": name, **common, "chat": {"model": asked, "prompt": prompt, **more}}


def models() -> list[dict[str, Any]]:
    """Models of this file only."""
    prices = {"inputPerMillion": "1000", "outputPerMillion": "2000", "currency": "EUR"}
    breaker = {"failurePercent": 1, "minimumCalls": 1, "openSeconds": 600}
    failing = {"client": "openai", "endpoint": "http://llm:8080/500/of-costs/v1", "model": "down", "retry": {"limit": 0}}
    secure = {"client": "openai", "endpoint": "https://secure-llm:8443/v1", "model": "secure"}
    trusted = {**secure, "caBundle": {"configMapKeyRef": {"name": "test-ca", "key": "ca.pem"}}}
    smollm2 = {"client": "local", "model": "smollm2", "local": {"path": "/models/smollm2", "memory": "256Mi"}}
    return [
        model("priced", {"client": "openai", "endpoint": "http://llm:8080/ok/v1", "model": "scripted", "prices": prices}),
        model("down", {**failing, "circuitBreaker": breaker, "fallback": ["priced"]}),
        model("secure", trusted),
        model("secure-http1", {**trusted, "http2": "Disabled"}),
        model("untrusted", secure),
        model("in-thread", smollm2),
        model("in-process", {**smollm2, "local": {**smollm2["local"], "isolation": "Process"}}),
    ]


TASKS: dict[str, dict[str, Any]] = {
    "opinions": {
        "steps": [
            {"name": "ask", "chat": {"models": ["remote", "answers-401", "plain"], "prompt": "yes or no?"}},
            chat("verdict", "plain", "{{ steps.ask.json['answers-401'].error.reason }}"),
        ],
        "output": "{{ steps.ask.text }}\n{{ steps.verdict.text }}",
    },
    "shaped": {
        "steps": [chat("plan", "answers-shape", "List edits.", responseSchema=EDITS)],
        "output": "{{ steps.plan.json.edits | join(', ') }}",
    },
    "never-shaped": {"steps": [chat("plan", "remote", "List edits.", responseSchema=EDITS)]},
    "costs": {
        "steps": [
            {"name": "list", "exec": {"command": ["sh", "-c", "echo '[1,2,3]' > l"], "waitFile": {"path": "l", "jsonSchema": {}}}},
            chat("ask", "down", "number {{ item }}", forEach="{{ steps.list.json }}"),
        ],
    },
    "over-http2": {
        "steps": [chat(f"ask-{place}", "secure", "hello", needs=[]) for place in range(4)],
        "output": "{{ steps['ask-3'].text }}",
    },
    "over-http1": {"steps": [chat("ask", "secure-http1", "hello")]},
    "not-trusted": {"steps": [chat("ask", "untrusted", "hello")]},
    **{
        isolation: {
            "steps": [chat(f"ask-{place}", isolation, question, needs=[], maxTokens=12) for place, question in enumerate(QUESTIONS)],
            "output": "{{ steps['ask-0'].text }}",
            "pod": LARGE,
        }
        for isolation in ("in-thread", "in-process")
    },
}


def secure_endpoint(image: str) -> list[dict[str, Any]]:
    """The endpoint of h2_endpoint.py with a certificate of an authority of our own, which models may trust."""
    authority = trustme.CA()
    certificate = authority.issue_cert("secure-llm")
    files = {
        "h2_endpoint.py": (Path(__file__).parent / "h2_endpoint.py").read_text(),
        "tls.crt": certificate.cert_chain_pems[0].bytes().decode(),
        "tls.key": certificate.private_key_pem.bytes().decode(),
    }
    ca = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "test-ca"}, "data": {"ca.pem": authority.cert_pem.bytes().decode()}}
    command = ["python3", "/script/h2_endpoint.py", "8443", "/script/tls.crt", "/script/tls.key"]
    return [ca, *endpoint_pod("secure-llm", image, command, port=8443, files=files)]


@pytest.fixture(scope="module")
def ended(release: Namespace, images: dict[str, str]) -> Iterator[dict[str, dict[str, Any]]]:
    """All tasks, applied at once, and their statuses when they have ended."""
    release.apply(*secure_endpoint(images["runner"]), *models())
    release.kubectl("wait", "--for=condition=Ready", "pod/secure-llm", "--timeout=120s")
    release.apply(*(task(name, spec) for name, spec in TASKS.items()))
    yield release.all_ended(TASKS, seconds=480)
    release.kubectl("delete", "agenttasks", *TASKS, "--wait=false")


def test_of_several_models_one_may_fail(ended: dict[str, dict[str, Any]]) -> None:
    status = ended["opinions"]
    assert status["phase"] == "Succeeded", status
    answers, verdict = status["output"].rsplit("\n", 1)
    assert " ".join(answers.split()) == "## remote echo: yes or no? (key of 9 characters) ## plain yes or no?"
    assert verdict == "ModelRejected"
    assert status["models"] == "remote, answers-401, plain"


def test_an_answer_of_the_wrong_shape_is_put_right_once(ended: dict[str, dict[str, Any]]) -> None:
    status = ended["shaped"]
    assert (status["phase"], status["output"]) == ("Succeeded", "first, second")
    assert status["usage"]["calls"] == 2


def test_a_model_that_never_answers_in_shape_is_a_typed_failure(ended: dict[str, dict[str, Any]]) -> None:
    status = ended["never-shaped"]
    assert (status["phase"], status["reason"], status["usage"]["calls"]) == ("Failed", "StepFailed", 2)
    assert "responseSchema" in status["message"]


def test_the_fallback_answers_the_breaker_spares_the_broken_endpoint_and_status_has_the_cost(
    ended: dict[str, dict[str, Any]], release: Namespace
) -> None:
    status = ended["costs"]
    assert status["phase"] == "Succeeded", status
    assert status["usage"]["cost"] == "0.0510 EUR"  # 3 answers of 7 tokens at 1000 and 5 at 2000 a million
    calls = release.kubectl("logs", "llm").splitlines()
    assert calls.count("POST /500/of-costs/v1/chat/completions 500") == 1
    log = release.kubectl("logs", status["podName"])
    assert "'priced'" in log
    header, row = release.kubectl("get", "at", "costs", "-o", "wide").splitlines()
    assert "COST" in header
    assert "0.0510 EUR" in row


def test_an_endpoint_with_a_certificate_of_its_own_is_called_over_one_http2_connection(
    ended: dict[str, dict[str, Any]], release: Namespace
) -> None:
    assert (ended["over-http2"]["phase"], ended["over-http2"]["output"]) == ("Succeeded", "over HTTP/2"), ended["over-http2"]
    calls = sorted(line for line in release.kubectl("logs", "secure-llm").splitlines() if line.startswith("HTTP/2"))
    assert calls == [f"HTTP/2 stream {stream}: POST /v1/chat/completions" for stream in (1, 3, 5, 7)]


def test_a_model_that_forbids_http2_is_called_over_http1_by_an_endpoint_that_has_both(
    ended: dict[str, dict[str, Any]], release: Namespace
) -> None:
    assert (ended["over-http1"]["phase"], ended["over-http1"]["output"]) == ("Succeeded", "over HTTP/1.1"), ended["over-http1"]
    calls = [line for line in release.kubectl("logs", "secure-llm").splitlines() if line.startswith("HTTP/1.1")]
    assert calls == ["HTTP/1.1: POST /v1/chat/completions"]


def test_a_certificate_that_nobody_vouches_for_is_told_as_such(ended: dict[str, dict[str, Any]]) -> None:
    status = ended["not-trusted"]
    assert (status["phase"], status["reason"]) == ("Failed", "ModelRejected")
    assert "certificate" in status["message"]
    assert "caBundle" in status["message"]


def test_weights_in_the_pod_answer_alike_in_thread_and_process(ended: dict[str, dict[str, Any]]) -> None:
    thread, process = ended["in-thread"], ended["in-process"]
    assert (thread["phase"], process["phase"]) == ("Succeeded", "Succeeded"), (thread, process)
    assert "Paris" in thread["output"]
    assert process["output"] == thread["output"]
    assert thread["usage"]["calls"] == process["usage"]["calls"] == len(QUESTIONS)


@pytest.mark.parametrize("isolation", ["in-thread", "in-process"])
def test_steps_that_ask_at_once_share_one_load_of_the_weights(ended: dict[str, dict[str, Any]], release: Namespace, isolation: str) -> None:
    log = release.kubectl("logs", ended[isolation]["podName"])
    assert "1 misses" in log, log
