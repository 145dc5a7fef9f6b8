"""What the chart makes for the gateway: a Secret that the controller reads, a Service that runners find."""

import asyncio
import base64
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from agenttask.controller.gateway.identity import SecretIdentity
from agenttask.controller.settings import GatewaySettings, read_settings


def _of(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in objects if each["kind"] == kind]


def _settings(objects: list[dict[str, Any]]) -> GatewaySettings:
    (config,) = _of(objects, "ConfigMap")
    return read_settings(config=config["data"]["config.yaml"], environ={}, flags=()).gateway


def _pod(objects: list[dict[str, Any]]) -> dict[str, Any]:
    (deployment,) = _of(objects, "Deployment")
    return deployment["spec"]["template"]["spec"]


def _mounted(objects: list[dict[str, Any]]) -> str:
    """The Secret that lies where the controller looks."""
    pod = _pod(objects)
    (mount,) = (each for each in pod["containers"][0]["volumeMounts"] if each["mountPath"] == GatewaySettings().certificate_dir)
    (volume,) = (each for each in pod["volumes"] if each["name"] == mount["name"])
    assert mount["readOnly"]
    return str(volume["secret"]["secretName"])


async def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> None:
    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0, ssl=server) as listening:
        port = listening.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=host)
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(("release", "namespace"), [("r", "ns"), ("x" * 53, "n" * 63)], ids=["short", "longest"])
def test_the_secret_is_one_that_the_controller_serves_and_a_strict_runner_trusts(
    render: Any, tmp_path: Path, release: str, namespace: str
) -> None:
    objects = render(release=release, namespace=namespace)
    (secret,) = _of(objects, "Secret")
    for name, content in secret["data"].items():
        (tmp_path / name).write_bytes(base64.b64decode(content))
    identity = SecretIdentity(tmp_path)
    client = ssl.create_default_context(cadata=identity.ca)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    host = urlsplit(_settings(objects).url).hostname
    assert host is not None
    asyncio.run(_shake_hands(identity.context, client, host))
    assert _mounted(objects) == secret["metadata"]["name"]


def test_the_service_has_every_replica_of_this_release_under_the_name_that_pods_are_told(render: Any) -> None:
    objects = render()
    (service,), pod = _of(objects, "Service"), _pod(objects)
    (deployment,) = _of(objects, "Deployment")
    assert _settings(objects).url == f"https://{service['metadata']['name']}.ns.svc:8443"
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
    (port,) = service["spec"]["ports"]
    ports = {each["name"]: each["containerPort"] for each in pod["containers"][0]["ports"]}
    assert (port["port"], ports[port["targetPort"]]) == (8443, _settings(objects).port)


def test_a_secret_that_exists_is_mounted_and_none_is_made(render: Any) -> None:
    objects = render("--set", "gateway.existingSecret=ours")
    assert (_of(objects, "Secret"), _mounted(objects)) == ([], "ours")


def test_without_a_gateway_there_is_nothing_of_it(render: Any) -> None:
    objects = render("--set", "gateway.enabled=false")
    assert not _settings(objects).enabled
    assert {each["kind"] for each in objects} & {"Secret", "Service", "NetworkPolicy"} == set()
    assert "gateway" not in yaml.safe_dump(_pod(objects))
