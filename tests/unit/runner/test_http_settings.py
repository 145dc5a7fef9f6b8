"""HTTP settings and feature gates of the environment, and the sessions that follow from them."""

from pathlib import Path

import msgspec
import pytest

from agenttask.api.document import ModelDocument
from agenttask.api.errors import InvalidTask
from agenttask.api.task import AgentTaskSpec
from agenttask.runner.gates import read_gates
from agenttask.runner.http_settings import HttpSettings, read_http_settings
from agenttask.runner.session import SharedSession
from agenttask.runner.settings import read_settings


def test_defaults_are_the_documented_ones() -> None:
    assert read_http_settings({}, {}) == HttpSettings(
        connections=100, connections_per_host=10, dns_cache_seconds=30, total_seconds=30, http2=True
    )


def test_variables_set_each_of_them() -> None:
    given = {
        "HTTP_CONNECTIONS": "7",
        "HTTP_CONNECTIONS_PER_HOST": "3",
        "HTTP_DNS_CACHE_SECONDS": "60",
        "HTTP_TOTAL_SECONDS": "120",
        "FEATURE_GATES": "HTTP2=false",
    }
    assert read_http_settings(given, {}) == HttpSettings(
        connections=7, connections_per_host=3, dns_cache_seconds=60, total_seconds=120, http2=False
    )


@pytest.mark.parametrize("raw", ["0", "-1", "1.5", "x", "٣", "9" * 5000, "10001"])
def test_a_number_out_of_bounds_is_refused_with_its_bounds(raw: str) -> None:
    with pytest.raises(InvalidTask, match="from 1 to 10000") as raised:
        read_http_settings({"HTTP_CONNECTIONS": raw}, {})
    assert raised.value.field == "HTTP_CONNECTIONS"
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    ("raw", "on"), [("", True), ("HTTP2=true", True), ("HTTP2=False", False), (" HTTP2=false , ", False), ("HTTP2=false,HTTP2=true", True)]
)
def test_a_gate_is_read(raw: str, on: bool) -> None:
    assert read_gates(raw) == {"HTTP2": on}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("HTP2=false", "no feature gate 'HTP2'; there are: HTTP2; did you mean 'HTTP2'?"),
        ("http3", "no feature gate 'http3'"),
        ("HTTP2", "can be true or false, as HTTP2=false"),
        ("HTTP2=no", "gate HTTP2 is 'no'"),
    ],
)
def test_an_unknown_gate_or_value_is_refused_with_what_there_is(raw: str, message: str) -> None:
    with pytest.raises(InvalidTask) as raised:
        read_gates(raw)
    assert message in str(raised.value)
    assert raised.value.field == "FEATURE_GATES"


@pytest.mark.parametrize(
    ("container", "task", "on"),
    [("HTTP2=false", "HTTP2=true", False), ("", "HTTP2=false", False), ("HTTP2=true", "HTTP2=false", True), ("", "", True)],
)
def test_the_containers_word_on_a_gate_is_the_last(container: str, task: str, on: bool) -> None:
    env = [{"name": "FEATURE_GATES", "value": task}, {"name": "HTTP_CONNECTIONS", "value": "5"}]
    spec = msgspec.convert({"steps": [{"name": "a", "read": {"paths": ["x"]}}], "pod": {"env": env}}, AgentTaskSpec)
    found = read_settings(spec, {"FEATURE_GATES": container, "HTTP_CONNECTIONS": "9"}, cpus=1, memory_bytes=None)
    assert found.http == HttpSettings(connections=5, http2=on)


async def test_a_model_gets_the_session_of_its_policy() -> None:
    shared = SharedSession()
    plain = ModelDocument(name="m", client="openai", model="x")
    special = ModelDocument(name="n", client="openai", model="x", http2="Disabled", headers={"X-Tenant": "blue"})
    session = shared.for_model(special)()
    assert shared.for_model(plain)() is shared()
    assert session is shared.for_model(special)()
    assert session is not shared()
    assert session.headers["X-Tenant"] == "blue"
    assert session.connector is shared().connector
    assert session.timeout.total == 30
    assert not session.trust_env
    await shared.aclose()
    assert session.closed
    await shared.aclose()


async def test_a_bundle_that_cannot_be_read_is_the_tasks_error() -> None:
    shared = SharedSession()
    broken = ModelDocument(name="m", client="openai", model="x", ca_file="/absent/ca.pem")
    with pytest.raises(InvalidTask, match=r"'/absent/ca\.pem' cannot be read"):
        shared.for_model(broken)()
    await shared.aclose()


def test_whom_to_trust_and_what_to_send_is_the_operators_not_the_tasks() -> None:
    mine = {"HTTP_CA_FILE": "/etc/ca.pem", "HTTP_HEADERS": "X-Team: agents\n\n x-env : prod: eu \n"}
    spec = msgspec.convert({"steps": [{"name": "a", "read": {"paths": ["x"]}}], "pod": {"env": []}}, AgentTaskSpec)
    asked = [{"name": name, "value": value} for name, value in (("HTTP_CA_FILE", "/workspace/ca.pem"), ("HTTP_HEADERS", "X: y"))]
    hostile = msgspec.convert({"steps": [{"name": "a", "read": {"paths": ["x"]}}], "pod": {"env": asked}}, AgentTaskSpec)
    found = read_settings(spec, mine, cpus=1, memory_bytes=None).http
    assert (found.ca_file, found.headers) == ("/etc/ca.pem", {"X-Team": "agents", "x-env": "prod: eu"})
    assert read_settings(hostile, {}, cpus=1, memory_bytes=None).http == HttpSettings()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("X-Team", "'X-Team' is no header; write one a line, as `X-Team: agents`"),
        ("X-Team: \x07", "is no header"),
        ("X Team: a", "'X Team' is no name that HTTP knows"),
        ("Host: a", "'Host' is set by the connection itself"),
    ],
)
def test_a_header_that_is_none_is_refused(raw: str, message: str) -> None:
    with pytest.raises(InvalidTask, match=message) as raised:
        read_http_settings({}, {"HTTP_HEADERS": raw})
    assert raised.value.field == "HTTP_HEADERS"


async def test_the_operators_headers_go_with_model_calls_only_and_a_models_own_win(tmp_path: Path) -> None:
    shared = SharedSession(settings=HttpSettings(headers={"X-Team": "agents", "X-Env": "prod"}))
    model = ModelDocument(name="m", client="openai", model="x", headers={"X-Env": "test"})
    assert dict(shared.for_model(model)().headers) == {"X-Team": "agents", "X-Env": "test"}
    assert not shared().headers
    await shared.aclose()


async def test_the_operators_certificates_stand_in_for_the_systems(tmp_path: Path) -> None:
    shared = SharedSession(settings=HttpSettings(ca_file=str(tmp_path / "none.pem")))
    with pytest.raises(InvalidTask, match=r"none\.pem"):
        shared()
    await shared.aclose()
