"""The object store as the controller has it: settings, what a pod gets of it and what it must not, and a report that names an object."""

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.controller_program import ended, node, program, task
from tests.fakes.seen import spec
from tests.fakes.seen import task as seen_task

from agenttask.api import report as reports
from agenttask.api.document import OutputStoreDocument, decode
from agenttask.api.errors import PodRejected
from agenttask.api.reasons import Reason
from agenttask.api.report import ObjectReport, Report
from agenttask.api.task import DeviceStatus
from agenttask.controller.acceptance import PluginNames, refusal
from agenttask.controller.installation import Images, Installation, OutputStore
from agenttask.controller.pod import PodRequest, build
from agenttask.controller.settings import SettingsError, read_settings
from agenttask.controller.verify import verify
from agenttask.domain.device import DeviceClass

STORE = OutputStore(
    url="s3://outputs/agents", secret_name="store-keys", options={"region": "eu-central-1", "allow_http": True}, max_bytes=10**6
)
OURS = Images(runner="r:1", runner_torch="t:1")
INSTALLATION = Installation(images=OURS, output_store=STORE)
ENV_FROM = [{"prefix": "AGENTTASK_STORE_", "secretRef": {"name": "store-keys", "optional": False}}]


def pod(installation: Installation, **fields: Any) -> dict[str, Any]:
    request = PodRequest(
        task=seen_task(),
        spec=spec(**fields),
        attempt=1,
        models={},
        device=DeviceStatus(class_="cpu"),
        device_class=DeviceClass(name="cpu"),
        environment={},
    )
    made = build(request, installation)
    verify(made, installation)
    found: dict[str, Any] = msgspec.json.decode(made)
    return found


def container(made: dict[str, Any]) -> dict[str, Any]:
    (one,) = made["spec"]["containers"]
    return one  # type: ignore[no-any-return]


def told(made: dict[str, Any]) -> OutputStoreDocument | None:
    return decode(made["metadata"]["annotations"]["agenttask.dev/document"]).output_store


# ---- settings


def test_it_is_set_as_everything_else_is() -> None:
    config = "outputStore: {url: 's3://outputs', secretName: keys, options: {region: eu, allow_http: true}}"
    found = read_settings(
        config=config,
        environ={"AGENTTASK_CONTROLLER_OUTPUT_STORE__SECRET_NAME": "store-keys", "AGENTTASK_CONTROLLER_OUTPUT_STORE__MAX_BYTES": "1000000"},
        flags=["outputStore.url=s3://outputs/agents"],
    )
    assert found.output_store == OutputStore(
        url="s3://outputs/agents", secret_name="store-keys", options={"region": "eu", "allow_http": True}, max_bytes=10**6
    )


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{url: 'ftp://outputs'}", r"outputStore\.url: 'ftp://outputs' is no bucket and prefix of one of s3, gs, az; write it as"),
        ("{url: 's3://outputs', secretName: Keys}", r"`outputStore\.secretName`"),
        ("{url: 's3://outputs', options: {secret_access_key: x}}", r"'secret_access_key' is a secret; make it a key of the Secret"),
        ("{url: 's3://outputs', options: {region: 5}}", r"got `int` - at `outputStore\.options"),
        ("{url: 's3://outputs', maxBytes: 65535}", r">= 65536 - at `outputStore\.maxBytes`"),
        ("{url: 's3://outputs', maxBytes: 536870913}", r"<= 536870912 - at `outputStore\.maxBytes`"),
        ("{uri: 's3://outputs'}", r"unknown setting 'outputStore\.uri'.*did you mean 'url'"),
        ("{secretName: keys}", r"outputStore\.secretName: 'keys' without outputStore\.url"),
    ],
)
def test_a_wrong_setting_stops_the_controller_at_its_start(config: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read_settings(config=f"outputStore: {config}", environ={}, flags=[])


# ---- what a pod gets


def test_a_pod_gets_the_store_and_its_secret_as_variables_that_only_the_runner_reads() -> None:
    made = pod(INSTALLATION)
    options = {"region": "eu-central-1", "allow_http": "true"}
    assert told(made) == OutputStoreDocument(url="s3://outputs/agents", options=options, secret="store-keys", max_bytes=10**6)
    assert container(made)["envFrom"] == ENV_FROM


@pytest.mark.parametrize(
    ("store", "image", "has_store", "variables"),
    [
        pytest.param(OutputStore(), None, False, None, id="no store"),
        pytest.param(STORE, "theirs:1", False, None, id="an image that may hold no credential"),
        pytest.param(OutputStore(url="s3://outputs"), None, True, None, id="by the pod's identity"),
        pytest.param(OutputStore(url="s3://outputs"), "theirs:1", True, None, id="by the pod's identity, from any image"),
        pytest.param(STORE, "r:1", True, ENV_FROM, id="our own image by name"),
    ],
)
def test_the_secret_goes_only_where_credentials_may(store: OutputStore, image: str | None, has_store: bool, variables: Any) -> None:
    made = pod(Installation(images=OURS, output_store=store), pod={"image": image} if image else {})
    assert (told(made) is not None, container(made).get("envFrom")) == (has_store, variables)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param([{"prefix": "AGENTTASK_STORE_", "secretRef": {"name": "other", "optional": False}}], id="another Secret"),
        pytest.param([{"prefix": "AGENTTASK_STORE_", "secretRef": {"name": "store-keys", "optional": True}}], id="optional"),
        pytest.param([{"prefix": "LD_", "secretRef": {"name": "store-keys", "optional": False}}], id="another prefix"),
        pytest.param([{"secretRef": {"name": "store-keys", "optional": False}}], id="no prefix"),
        pytest.param([{"prefix": "AGENTTASK_STORE_", "configMapRef": {"name": "store-keys", "optional": False}}], id="a ConfigMap"),
        pytest.param([*ENV_FROM, *ENV_FROM], id="twice"),
    ],
)
def test_no_other_variables_come_from_anywhere(change: Any) -> None:
    made = pod(INSTALLATION)
    container(made)["envFrom"] = change
    with pytest.raises(PodRejected, match=r"envFrom"):
        verify(msgspec.json.encode(made), INSTALLATION)


def test_variables_of_the_secret_are_in_no_strange_image() -> None:
    made = pod(INSTALLATION)
    container(made)["image"] = "theirs:1"
    with pytest.raises(PodRejected, match="envFrom Secret 'store-keys'"):
        verify(msgspec.json.encode(made), INSTALLATION)


def test_no_task_may_name_the_stores_secret() -> None:
    names = PluginNames(
        step_kinds=frozenset({"exec"}),
        threading=frozenset({"async"}),
        llm_clients=frozenset(),
        model_factories=frozenset(),
        device_strategies=frozenset({"auto"}),
    )
    installation = Installation(secret_globs=("*",), output_store=STORE)
    steps = [{"name": "see", "exec": {"command": ["env"], "env": [{"name": "K", "secretKeyRef": {"name": "store-keys", "key": "k"}}]}}]
    refused = refusal(spec(steps=steps), installation, names)
    assert refused is not None
    assert refused.message.startswith("spec.steps[0].exec.env[0].secretKeyRef: tasks may not name the Secret 'store-keys'")


# ---- what a report is believed


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer(bookmark_seconds=0.5) as server:
        server.put("nodes", node())
        yield server


async def reported(server: FakeApiServer, *flags: str, forged: str = "", size: int = 2_000_000) -> dict[str, Any]:
    """The status of a task whose runner said that it left its output in the store."""
    async with program(server, *flags):
        server.put("agenttasks", task("a"))
        await server.until(lambda: server.objects("pods"), 20)
        (made,) = server.objects("pods")
        uid = json.loads(made["metadata"]["annotations"]["agenttask.dev/document"])["task"]["uid"]
        address = forged or f"s3://outputs/x/{made['metadata']['namespace']}/a/{uid}/attempt-1/output"
        report = Report(done=True, output_object=ObjectReport(address, size, "0" * 64))
        server.kubelet.end(made["metadata"]["name"], reports.encode(report).decode())
        return await ended(server, "a")


async def test_the_status_names_what_lies_in_the_store(server: FakeApiServer) -> None:
    found = await reported(server, "outputStore.url=s3://outputs/x")
    (made,) = server.objects("agenttasks")
    key = f"{made['metadata']['namespace']}/a/{made['metadata']['uid']}/attempt-1/output"
    assert (found["phase"], "output" in found) == ("Succeeded", False)
    assert found["outputRef"] == {"kind": "ObjectStore", "name": "s3://outputs/x", "key": key, "size": 2_000_000, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("flags", "forged", "size", "said"),
    [
        pytest.param(
            ["outputStore.url=s3://outputs/x"], "s3://evil/x/y", 5, "lies at 's3://evil/x/y', and no place but", id="another place"
        ),
        pytest.param(["outputStore.url=s3://outputs/x"], "", 70_000_000, "has 70000000 bytes, and at most 67108864", id="too large"),
        pytest.param([], "", 5, "and there is no store (outputStore.url); set it", id="there is no store"),
    ],
)
async def test_what_cannot_be_true_is_no_success_and_no_reference(
    server: FakeApiServer, flags: list[str], forged: str, size: int, said: str
) -> None:
    found = await reported(server, *flags, forged=forged, size=size)
    assert (found["phase"], found["reason"], "outputRef" in found) == ("Failed", Reason.RUNNER_CRASHED, False)
    assert said in found["message"]
