"""A pod's way to the gateway: its document has the address, its container the token, and nothing else gets the variable."""

import msgspec
import pytest
from tests.fakes.seen import spec, task

from agenttask.api.constants import ANNOTATION_DOCUMENT, ENV_GATEWAY_TOKEN
from agenttask.api.document import GatewayDocument, decode
from agenttask.api.errors import PodRejected
from agenttask.api.task import DeviceStatus
from agenttask.controller.installation import Installation
from agenttask.controller.pod import PodRequest, build
from agenttask.controller.verify import verify

GATEWAY = GatewayDocument(url="https://agenttask-gateway.agents.svc:8443", ca="PEM")
INSTALLATION = Installation()


def request(environment: dict[str, str], gateway: GatewayDocument | None = GATEWAY) -> PodRequest:
    return PodRequest(
        task=task(),
        spec=spec(),
        attempt=2,
        models={},
        device=DeviceStatus(class_="cpu"),
        device_class=INSTALLATION.device_class("cpu"),
        environment=environment,
        gateway=gateway,
    )


def test_the_document_has_the_address_and_the_container_the_token() -> None:
    body = build(request({ENV_GATEWAY_TOKEN: "t.t"}), INSTALLATION)
    verify(body, INSTALLATION)
    pod = msgspec.json.decode(body)
    assert decode(pod["metadata"]["annotations"][ANNOTATION_DOCUMENT]).gateway == GATEWAY
    assert {"name": ENV_GATEWAY_TOKEN, "value": "t.t"} in pod["spec"]["containers"][0]["env"]


def test_without_a_gateway_a_pod_has_neither() -> None:
    pod = msgspec.json.decode(build(request({}, None), INSTALLATION))
    assert decode(pod["metadata"]["annotations"][ANNOTATION_DOCUMENT]).gateway is None
    assert ENV_GATEWAY_TOKEN not in str(pod["spec"])


@pytest.mark.parametrize("name", [f"{ENV_GATEWAY_TOKEN}_2", "AGENTTASK_GATEWAY_URL", ENV_GATEWAY_TOKEN.lower()])
def test_no_other_variable_passes_for_it(name: str) -> None:
    with pytest.raises(PodRejected, match=name):
        verify(build(request({name: "x"}), INSTALLATION), INSTALLATION)


def test_a_token_from_a_secret_is_refused() -> None:
    body = msgspec.json.decode(build(request({ENV_GATEWAY_TOKEN: "t.t"}), INSTALLATION))
    (variable,) = (one for one in body["spec"]["containers"][0]["env"] if one["name"] == ENV_GATEWAY_TOKEN)
    del variable["value"]
    variable["valueFrom"] = {"secretKeyRef": {"name": "s", "key": "k", "optional": False}}
    with pytest.raises(PodRejected, match=ENV_GATEWAY_TOKEN):
        verify(msgspec.json.encode(body), INSTALLATION)
