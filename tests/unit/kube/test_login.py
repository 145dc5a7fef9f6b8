"""Credentials from a pod and from a kubeconfig, and a token that is replaced under way."""

import asyncio
import base64
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import kopf
import pytest
import trustme
import yaml
from aiohttp import web
from tests.fakes.apiserver import FakeApiServer

from agenttask.controller import login as login_module
from agenttask.controller.backoff import Backoff
from agenttask.controller.credentials import Credentials, LoginError
from agenttask.controller.kube import KubeClient
from agenttask.controller.kube_errors import Unauthorized, Unreachable
from agenttask.controller.kube_paths import configmaps_path
from agenttask.controller.kubeconfig import load
from agenttask.controller.login import Connection, find_credentials, in_cluster
from agenttask.controller.tokens import FileToken, FixedToken

MAPS = configmaps_path("default")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate and its key, which do as authority and as client."""
    folder = tmp_path_factory.mktemp("pki")
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test"]
    subprocess.run(
        ["openssl", "req", "-x509", *kind, *files],
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture
def account(tmp_path: Path, pki: Path) -> Path:
    (tmp_path / "ca.crt").write_bytes((pki / "cert.pem").read_bytes())
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "namespace").write_text("agents")
    return tmp_path


def config(path: Path, user: dict[str, Any], cluster: dict[str, Any] | None = None, **more: Any) -> Path:
    body = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "agents"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://k8s.test:6443/", **(cluster or {})}}],
        "users": [{"name": "u", "user": user}],
        **more,
    }
    path.write_text(yaml.safe_dump(body))
    return path


async def token_of(credentials: Credentials) -> str:
    assert credentials.token is not None
    return await credentials.token.current()


@pytest.mark.parametrize(
    ("host", "server"),
    [("10.96.0.1", "https://10.96.0.1:443"), ("fd00::1", "https://[fd00::1]:443")],
    ids=["ipv4", "ipv6"],
)
async def test_a_pod_uses_its_service_account(account: Path, host: str, server: str) -> None:
    found = await find_credentials({"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443"}, service_account=account)

    assert (found.server, found.namespace, await token_of(found)) == (server, "agents", "first")
    assert found.tls is not None
    assert found.tls.verify_mode is ssl.CERT_REQUIRED


async def test_a_pod_without_a_mounted_account_is_told_why(tmp_path: Path) -> None:
    with pytest.raises(LoginError, match="automountServiceAccountToken"):
        await find_credentials({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, service_account=tmp_path)


async def test_kubeconfig_in_the_environment_goes_before_the_pod(account: Path, tmp_path: Path) -> None:
    path = config(tmp_path / "config", {"token": "t"})
    found = await find_credentials({"KUBECONFIG": str(path), "KUBERNETES_SERVICE_HOST": "10.96.0.1"}, service_account=account)

    assert (found.server, found.namespace, await token_of(found)) == ("https://k8s.test:6443", "agents", "t")


async def test_the_home_folders_kubeconfig_comes_last(tmp_path: Path) -> None:
    (tmp_path / ".kube").mkdir()
    config(tmp_path / ".kube" / "config", {"token": "home"})

    assert await token_of(await find_credentials({}, home=tmp_path)) == "home"


async def test_no_credentials_at_all_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(LoginError, match="KUBECONFIG is not set"):
        await find_credentials({}, home=tmp_path)


async def test_a_token_file_is_read_once_a_minute_and_when_it_is_refused(account: Path) -> None:
    clock = Clock()
    token = FileToken(account / "token", clock)
    assert await token.current() == "first"
    (account / "token").write_text("second")
    clock.now += 59
    assert await token.current() == "first"
    assert await token.current(refused="another") == "first"
    clock.now += 1
    assert await token.current() == "second"
    (account / "token").write_text("third")
    assert await token.current(refused="second") == "third"
    (account / "token").unlink()
    clock.now += 61
    assert await token.current() == "third"


async def test_a_token_file_that_never_was_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await FileToken(tmp_path / "token", Clock()).current()


async def test_a_rotated_token_is_used_without_a_failed_request(account: Path) -> None:
    async with (
        FakeApiServer(token="first") as server,
        Connection(Credentials(server=server.url, token=FileToken(account / "token", Clock()))) as connection,
    ):
        client = KubeClient(connection.session, connection.server)
        await client.get(MAPS)
        (account / "token").write_text("second")
        server.token = "second"
        await client.create(MAPS, b'{"metadata": {"name": "a"}}')

    assert server.get("configmaps", "a") is not None


async def test_a_token_that_stays_wrong_is_unauthorized(account: Path) -> None:
    async with (
        FakeApiServer(token="other") as server,
        Connection(Credentials(server=server.url, token=FixedToken("wrong"))) as connection,
    ):
        with pytest.raises(Unauthorized):
            await KubeClient(connection.session, connection.server).get(MAPS)

    assert len(server.requests) == 1


@asynccontextmanager
async def api_server_of(authority: trustme.CA, port: int = 0) -> AsyncIterator[int]:
    """Answers everything, with a certificate of this authority; the port."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"metadata": {"name": "a"}})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls, reuse_address=True).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def trust(account: Path, *authorities: trustme.CA) -> None:
    (account / "ca.crt").write_bytes(b"".join(one.cert_pem.bytes() for one in authorities))


async def test_an_authority_that_is_replaced_is_followed_and_what_is_no_certificate_changes_nothing(account: Path) -> None:
    """A cluster's CA is rotated: first the API server has a certificate of the new one, then the kubelet brings the file."""
    old, new, strange = trustme.CA(), trustme.CA(), trustme.CA()
    trust(account, old)
    clock = Clock()
    async with api_server_of(old) as port:
        credentials = in_cluster("127.0.0.1", str(port), account, clock)
        async with Connection(credentials) as connection:
            client = KubeClient(connection.session, connection.server)
            await client.get(MAPS)
    async with Connection(credentials) as connection:
        client = KubeClient(connection.session, connection.server)
        async with api_server_of(new, port):
            with pytest.raises(Unreachable, match=r"(?i)certificate"):
                await client.get(MAPS)
            (account / "ca.crt").write_text("no certificate")
            with pytest.raises(Unreachable):
                await client.get(MAPS)
            trust(account, new)
            await client.get(MAPS)
    async with Connection(credentials) as connection:
        client = KubeClient(connection.session, connection.server)
        async with api_server_of(strange, port):
            with pytest.raises(Unreachable):
                await client.get(MAPS)
            trust(account, new, strange)
            clock.now += 60
            await client.get(MAPS)


async def test_the_authority_in_a_kubeconfigs_file_is_followed_as_well(tmp_path: Path) -> None:
    old, new = trustme.CA(), trustme.CA()
    trust(tmp_path, old)
    async with api_server_of(new) as port:
        cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": "ca.crt"}
        async with Connection(await load(str(config(tmp_path / "config", {"token": "t"}, cluster)), clock=Clock())) as connection:
            client = KubeClient(connection.session, connection.server)
            with pytest.raises(Unreachable, match=r"(?i)certificate"):
                await client.get(MAPS)
            trust(tmp_path, new)
            await client.get(MAPS)


@pytest.mark.parametrize("inline", [False, True])
async def test_an_authority_that_stands_in_the_kubeconfig_goes_before_a_file_and_is_not_read_again(tmp_path: Path, inline: bool) -> None:
    one = trustme.CA()
    trust(tmp_path, one)
    data = {"certificate-authority-data": base64.b64encode(one.cert_pem.bytes()).decode()} if inline else {}
    found = await load(str(config(tmp_path / "config", {}, {"certificate-authority": "ca.crt", **data})), clock=Clock())
    assert found.tls is not None
    assert (found.authority is None, len(found.tls.get_ca_certs())) == (inline, 1)


async def test_a_token_is_not_carried_to_another_server() -> None:
    async with (
        FakeApiServer(token="t") as server,
        FakeApiServer(token="t") as stranger,
        Connection(Credentials(server=server.url, token=FixedToken("t"))) as connection,
    ):
        with pytest.raises(Unauthorized):
            await KubeClient(connection.session, stranger.url).get(MAPS)


async def test_kopf_closing_its_session_leaves_ours_working(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_module, "RELOGINS", Backoff(initial=0.001, maximum=0.001))
    async with FakeApiServer() as server, Connection(Credentials(server=server.url, namespace="agents")) as connection:
        login = connection.login()
        first, second = await login(logger=None), await login(logger=None)
        assert (first.server, first.default_namespace) == (server.url, "agents")
        assert first.aiohttp_session is not second.aiohttp_session
        await first.aiohttp_session.close()
        await second.aiohttp_session.close()

        await KubeClient(connection.session, connection.server).get(MAPS)


@pytest.mark.filterwarnings("ignore:Unclosed connection:ResourceWarning")  # aiohttp forgets the one that came meanwhile
@pytest.mark.parametrize("waits_for", ["token", "connection"])
async def test_kopf_goes_on_when_its_session_is_closed_under_a_watch_that_waits(monkeypatch: pytest.MonkeyPatch, waits_for: str) -> None:
    """As a 401 of another stream does it; aiohttp's assertion about it ended the watch, and with it the process."""
    monkeypatch.setattr(login_module, "RELOGINS", Backoff(initial=0.01, maximum=0.01))
    registry, stop = kopf.OperatorRegistry(), asyncio.Event()
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = settings.peering.standalone = True
    settings.posting.enabled = False
    seen: list[str] = []
    sessions: list[aiohttp.ClientSession] = []

    class Gate:
        """A token, and the way to a connection, that come when they are let go."""

        def __init__(self) -> None:
            self.open, self.waits = asyncio.Event(), False
            self.open.set()

        async def current(self, *, refused: str | None = None) -> str:
            self.waits = not self.open.is_set()
            await self.open.wait()
            return "t"

        async def connect(self, *arguments: Any, **named: Any) -> Any:
            await self.current()
            return await dial(*arguments, **named)

    @kopf.on.event("agenttask.dev", "v1alpha1", "agenttasks", registry=registry)
    async def observe(name: str, **_: Any) -> None:
        seen.append(name)

    gate = Gate()
    token = gate if waits_for == "token" else FixedToken("t")
    async with FakeApiServer() as server, Connection(Credentials(server=server.url, token=token)) as connection:
        connect, dial = connection.login(), connection._connector.connect
        if waits_for == "connection":
            monkeypatch.setattr(connection._connector, "connect", gate.connect)

        async def login(**arguments: Any) -> kopf.AiohttpSession:
            found = await connect(**arguments)
            sessions.append(found.aiohttp_session)
            return found

        kopf.on.login(registry=registry)(login)
        operator = kopf.operator(
            registry=registry, settings=settings, clusterwide=False, namespaces=["default"], stop_flag=stop, memo=kopf.Memo()
        )
        running = asyncio.create_task(operator)
        await server.until(lambda: len(server.watches))
        gate.open.clear()
        server.drop_watches(clean=True)
        await server.until(lambda: gate.waits)
        await sessions[-1].close()
        gate.open.set()
        server.put("agenttasks", {"metadata": {"name": "a"}, "spec": {}})
        await server.until(lambda: running.done() or seen)
        assert (running.done(), set(seen), len(sessions)) == (False, {"a"}, 2)

        stop.set()
        await asyncio.wait_for(running, 60)


async def test_kopf_watches_and_logs_in_again_over_the_shared_pool(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_module, "RELOGINS", Backoff(initial=0.01, maximum=0.01))
    registry = kopf.OperatorRegistry()
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.watching.reconnect_backoff = 0.01
    settings.watching.field_selectors["agenttask.dev", "v1alpha1", "agenttasks"] = "status.phase!=Succeeded"
    seen: list[tuple[str, str]] = []

    @kopf.on.event("agenttask.dev", "v1alpha1", "agenttasks", registry=registry)
    async def observe(event: Any, name: str, **_: Any) -> None:
        seen.append((event["type"], name))

    async with FakeApiServer(token="first") as server:
        server.put("agenttasks", {"metadata": {"name": "a"}, "spec": {}})
        async with Connection(Credentials(server=server.url, token=FileToken(account / "token", Clock()))) as connection:
            kopf.on.login(registry=registry)(connection.login())
            stop = asyncio.Event()
            running = asyncio.create_task(
                kopf.operator(
                    registry=registry,
                    settings=settings,
                    clusterwide=False,
                    namespaces=["default"],
                    stop_flag=stop,
                    memo=kopf.Memo(),
                )
            )
            await server.until(lambda: seen and len(server.watches))
            server.put("agenttasks", {"metadata": {"name": "b"}, "spec": {}})
            await server.until(lambda: ("ADDED", "b") in seen)
            server.patch("agenttasks", "b", {"status": {"phase": "Succeeded"}}, subresource="status")
            await server.until(lambda: ("DELETED", "b") in seen)

            server.token = "second"  # refused for good now: kopf closes its session and asks for another
            server.drop_watches(clean=True)
            await server.until(lambda: connection._logins > 1)
            (account / "token").write_text("second")
            await server.until(lambda: len(server.watches))
            server.put("agenttasks", {"metadata": {"name": "c"}, "spec": {}})
            await server.until(lambda: ("ADDED", "c") in seen)
            await KubeClient(connection.session, connection.server).get(MAPS)

            stop.set()
            await asyncio.wait_for(running, 60)

    assert server.writes == []


async def test_certificates_stand_inline_or_in_files_beside_the_kubeconfig(tmp_path: Path, pki: Path) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_bytes((pki / name).read_bytes())
    inline = {
        f"{field}-data": base64.b64encode((pki / name).read_bytes()).decode()
        for field, name in (("client-certificate", "cert.pem"), ("client-key", "key.pem"))
    }
    beside = {"client-certificate": "cert.pem", "client-key": "key.pem"}
    for user in (inline, beside):
        found = await load(str(config(tmp_path / "config", user, {"certificate-authority": "cert.pem"})), clock=Clock())
        assert found.token is None
        assert found.tls is not None
        assert len(found.tls.get_ca_certs()) == 1


async def test_a_token_file_in_a_kubeconfig_is_followed(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from file")

    assert await token_of(await load(str(config(tmp_path / "config", {"tokenFile": "token"})), clock=Clock())) == "from file"


async def test_a_cluster_may_be_plain_insecure_or_behind_a_proxy(tmp_path: Path) -> None:
    plain = await load(str(config(tmp_path / "a", {}, {"server": "http://127.0.0.1:8001"})), clock=Clock())
    insecure = await load(str(config(tmp_path / "b", {}, {"insecure-skip-tls-verify": True, "proxy-url": "http://p:3128"})), clock=Clock())

    assert (plain.tls, plain.token) == (None, None)
    assert insecure.tls is not None
    assert (insecure.tls.verify_mode, insecure.proxy) == (ssl.CERT_NONE, "http://p:3128")


async def test_of_several_kubeconfigs_the_first_to_name_something_wins(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.write_text(yaml.safe_dump({"users": [{"name": "u", "user": {"token": "first"}}]}))
    second = config(tmp_path / "second", {"token": "second"})

    assert await token_of(await load(f"{first}:{tmp_path / 'missing'}:{second}", clock=Clock())) == "first"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no mapping"),
        ("a: [", "cannot be read"),
        ("kind: Config", "no kubeconfig with contexts"),
        ("current-context: x\ncontexts: [{name: y, context: {}}]", "no context 'x'; it has 'y'"),
        ("current-context: x\ncontexts: [{name: x, context: {cluster: c}}]", "no cluster 'c'; it has none"),
        ("current-context: x\ncontexts: [{name: x, context: {cluster: c}}]\nclusters: [{name: c}]", "no `server`"),
    ],
    ids=["empty", "no-yaml", "no-contexts", "unknown-context", "unknown-cluster", "no-server"],
)
async def test_a_broken_kubeconfig_is_explained(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config").write_text(text)

    with pytest.raises(LoginError, match=message):
        await load(str(tmp_path / "config"), clock=Clock())


@pytest.mark.parametrize(
    ("user", "cluster", "message"),
    [
        ({"username": "u", "password": "p"}, {}, "passwords"),
        ({"client-certificate-data": "###"}, {}, "certificates cannot be read"),
        ({"client-certificate": "missing.pem"}, {}, "certificates cannot be read"),
        ({}, {"certificate-authority-data": "Z2FyYmFnZQ=="}, "certificates cannot be read"),
        ({}, {"tls-server-name": "other"}, "tls-server-name"),
    ],
    ids=["password", "no-base64", "missing-file", "no-certificate", "server-name"],
)
async def test_what_a_kubeconfig_may_not_say_is_refused(
    tmp_path: Path, user: dict[str, Any], cluster: dict[str, Any], message: str
) -> None:
    with pytest.raises(LoginError, match=message):
        await load(str(config(tmp_path / "config", user, cluster)), clock=Clock())


def exec_user(script: Path, body: str) -> dict[str, Any]:
    script.write_text(f"#!{sys.executable}\n{body}")
    script.chmod(0o755)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(script), "interactiveMode": "Never"}}


PLUGIN = """
import json, pathlib
file = pathlib.Path(__file__).with_suffix(".count")
count = int(file.read_text()) + 1 if file.exists() else 1
file.write_text(str(count))
status = {"token": f"token-{count}", "expirationTimestamp": "2999-01-01T00:00:00Z"}
print(json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}))
"""


async def test_an_exec_plugin_is_asked_again_only_when_its_token_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("kubernetes_asyncio")
    clock = Clock()
    found = await load(str(config(tmp_path / "config", exec_user(tmp_path / "plugin", PLUGIN))), clock=clock)

    assert found.token is not None
    assert await found.token.current() == "token-1"
    clock.now += 61
    assert await found.token.current() == "token-1"
    assert await found.token.current(refused="token-1") == "token-2"


async def test_an_exec_plugin_may_give_a_certificate(tmp_path: Path, pki: Path) -> None:
    pytest.importorskip("kubernetes_asyncio")
    status = {"clientCertificateData": (pki / "cert.pem").read_text(), "clientKeyData": (pki / "key.pem").read_text()}
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    user = exec_user(tmp_path / "plugin", f"import json\nprint(json.dumps({answer!r}))")

    found = await load(str(config(tmp_path / "config", user)), clock=Clock())

    assert found.token is None
    assert found.tls is not None


async def test_an_exec_plugin_that_fails_is_explained(tmp_path: Path) -> None:
    pytest.importorskip("kubernetes_asyncio")
    user = exec_user(tmp_path / "plugin", "raise SystemExit('no network')")

    with pytest.raises(LoginError, match="login plugin of context 'here' failed"):
        await load(str(config(tmp_path / "config", user)), clock=Clock())


async def test_a_login_plugin_without_its_library_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes_asyncio", None)

    with pytest.raises(LoginError, match="pip install kubernetes-asyncio"):
        await load(str(config(tmp_path / "config", {"auth-provider": {"name": "oidc"}})), clock=Clock())
