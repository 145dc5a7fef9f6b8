"""A control plane of the tests' own: etcd, kube-apiserver and kube-controller-manager on loopback, from tests/cluster/bin.

No scheduler and no kubelet: the tests play both (tests/fakes/kubelet.py). Of the controllers only those that decide about
what is left behind run: garbage collection, namespaces, service accounts, quota. Every write is in the audit log, whole.
"""

import asyncio
import json
import re
import secrets
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.fakes.held_port import held_port
from tests.faults.api import Api, Refused
from tests.faults.eventually import PATIENCE, eventually
from tests.faults.launching import ForkServer, die_with_us
from tests.faults.paths import path

ROOT: Final = Path(__file__).parents[2]
BIN: Final = ROOT / "tests" / "cluster" / "bin"
PROGRAMS: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "helm")
NODE: Final = "node-1"
OPERATORS: Final = "operators"
"""The namespace of all controllers' service accounts."""
_RELEASE: Final = "stand-in-release"
_INSTALLED: Final = "stand-in-operators"
_WATCHED: Final = "stand-in-watched-"
_CONTROLLERS: Final = "garbage-collector-controller,namespace-controller,serviceaccount-controller,resourcequota-controller"
_AUDIT: Final = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
omitManagedFields: true
rules:
- {level: Metadata, verbs: [get, list, watch], resources: [{group: "", resources: [secrets]}]}
- {level: None, verbs: [get, list, watch]}
- level: RequestResponse
  resources: [{group: "", resources: [pods, pods/*]}, {group: agenttask.dev}]
- {level: Metadata}
"""


def missing() -> str | None:
    """Why there can be no control plane on this machine."""
    absent = [name for name in PROGRAMS if not (BIN / name).exists()]
    return f"no {', '.join(absent)} in tests/cluster/bin: `make cluster-up` builds them" if absent else None


class ControlPlane:
    """The three processes, the fork server of the controllers, and what tests need to know of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.audit = folder / "audit.log"
        self.token = secrets.token_hex(16)
        self._holding = ExitStack()
        etcd, peer, self._port, self._manager_port = (self._holding.enter_context(held_port()) for _ in range(4))
        self._etcd, self._peer = f"http://127.0.0.1:{etcd}", f"http://127.0.0.1:{peer}"
        self.server = f"https://127.0.0.1:{self._port}"
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.controllers = ForkServer(folder)

    def api(self) -> Api:
        """An administrator."""
        return Api(self.server, self.token)

    async def start(self) -> None:
        """Start all of it and install what every test needs: the CRDs of this checkout, one node, the operators' namespace."""
        self._write_files()
        self._run(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={self._etcd}",
            f"--advertise-client-urls={self._etcd}",
            f"--listen-peer-urls={self._peer}",
            f"--initial-advertise-peer-urls={self._peer}",
            f"--initial-cluster=default={self._peer}",
            "--unsafe-no-fsync",
            "--log-level=error",
        )
        async with aiohttp.ClientSession() as session:  # an API server gives an etcd that is not there up after 20 s
            await eventually(lambda: self._etcd_serves(session), what="etcd")
        self.start_api_server()
        async with self.api() as api:
            await self.until_ready(api)
            await self._install(api)
            self._run(
                "kube-controller-manager",
                f"--kubeconfig={self.folder / 'admin.yaml'}",
                f"--controllers={_CONTROLLERS}",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                f"--secure-port={self._manager_port}",
                f"--cert-dir={self.folder}",
                "--kube-api-qps=200",
                "--kube-api-burst=400",
            )
            await api.create(path("namespaces"), {"metadata": {"name": OPERATORS}})
            await until_there(api, path("serviceaccounts", OPERATORS, "default"))
        self.controllers.until_ready()

    def start_api_server(self) -> None:
        """Start the API server; `until_ready` tells when it serves."""
        self._run(
            "kube-apiserver",
            f"--etcd-servers={self._etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._port}",
            f"--cert-dir={self.folder}",
            "--service-cluster-ip-range=10.97.0.0/24",
            "--endpoint-reconciler-type=none",
            "--authorization-mode=RBAC",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={self.folder / 'sa.key'}",
            f"--service-account-signing-key-file={self.folder / 'sa.key'}",
            f"--audit-policy-file={self.folder / 'audit.yaml'}",
            f"--audit-log-path={self.audit}",
            "--audit-log-maxsize=1000",
            "--event-ttl=1h",
            "--profiling=false",
            "--shutdown-watch-termination-grace-period=0s",
        )

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until it is gone."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    async def until_ready(self, api: Api) -> None:
        """Wait for the API server."""
        ends = time.monotonic() + PATIENCE
        while True:
            try:
                await api.find("/apis")
                await api.create(path("namespaces") + "?dryRun=All", {"metadata": {"name": "probe"}})
            except (Refused, OSError) as error:
                if time.monotonic() > ends or self._running["kube-apiserver"].poll() is not None:
                    log = (self.folder / "kube-apiserver.log").read_text()[-3000:]
                    raise AssertionError(f"the API server does not serve: {error}\n{log}") from error
                await asyncio.sleep(0.1)
            else:
                return

    def stop(self) -> None:
        """End all of it."""
        self.controllers.stop()
        for name in reversed(list(self._running)):
            self.kill(name)
        self._holding.close()

    async def _etcd_serves(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self._etcd}/health") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, OSError):
            return False

    def _run(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [BIN / name, *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder, preexec_fn=die_with_us
            )

    def _write_files(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        encoded = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        (self.folder / "sa.key").write_bytes(encoded)
        (self.folder / "tokens.csv").write_text(f"{self.token},admin,admin,system:masters\n")
        (self.folder / "audit.yaml").write_text(_AUDIT)
        (self.folder / "admin.yaml").write_text(kubeconfig(self.server, {"token": self.token}))

    async def _install(self, api: Api) -> None:
        for file in sorted((ROOT / "crds").glob("*.yaml")):
            crd = yaml.safe_load(file.read_text())
            await api.create(path("customresourcedefinitions"), crd)
            ends = time.monotonic() + PATIENCE
            while not _established(await api.get(path("customresourcedefinitions", name=crd["metadata"]["name"]))):
                assert time.monotonic() < ends, f"{file.name} is not served"
                await asyncio.sleep(0.05)
        await api.create(path("nodes"), {"metadata": {"name": NODE}})
        status = {"allocatable": {"cpu": "64", "memory": "64Gi"}, "capacity": {"cpu": "64", "memory": "64Gi"}}
        await api.patch(path("nodes", name=NODE, subresource="status"), {"status": status})


def kubeconfig(server: str, user: dict[str, Any]) -> str:
    """A kubeconfig of one context."""
    cluster = {"server": server} | ({"insecure-skip-tls-verify": True} if server.startswith("https") else {})
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
            "clusters": [{"name": "here", "cluster": cluster}],
            "users": [{"name": "here", "user": user}],
        }
    )


async def until_there(api: Api, where: str) -> None:
    """Wait until an object exists."""
    await eventually(lambda: api.find(where), what=where)


def rendered(release: str, watched: Sequence[str], installed: str = OPERATORS) -> list[dict[str, Any]]:
    """The chart's rights for a controller of this release, installed in that namespace: account, roles and bindings."""
    names = {_RELEASE: release, _INSTALLED: installed} | {f"{_WATCHED}{number}": name for number, name in enumerate(watched)}
    text = re.sub("|".join(map(re.escape, names)), lambda found: names[found[0]], _template(len(watched)))
    kinds = ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    objects = [each for each in yaml.safe_load_all(text) if each and each["kind"] in kinds]
    return [each for each in objects if "helm.sh/hook" not in each["metadata"].get("annotations", {})]


@cache
def _template(watched: int) -> str:
    """What the chart makes of stand-ins for the names: helm takes half a second, and only the names differ."""
    done = subprocess.run(
        [
            BIN / "helm",
            "template",
            _RELEASE,
            ROOT / "charts" / "agenttask-operator",
            f"--namespace={_INSTALLED}",
            "--set=rbac.aggregate=false",
            f"--set-json=watchNamespaces={json.dumps([f'{_WATCHED}{number}' for number in range(watched)])}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def _established(crd: dict[str, Any]) -> bool:
    return any(one["type"] == "Established" and one["status"] == "True" for one in crd.get("status", {}).get("conditions") or [])
