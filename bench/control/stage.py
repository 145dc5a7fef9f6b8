"""The stage: a fresh etcd, API server, scheduler, base controllers and fake nodes, on loopback, apart from any other cluster.

The programs are those of tests/cluster. There is no kubelet and no containerd: one fake kubelet serves twenty nodes for every
contender. The garbage collector and the few other controllers that tasks and Jobs lean on are a process of their own, so
that the Job controller's process does the work of Jobs only.
"""

import contextlib
import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import trustme
from bench.control.connection import Access
from bench.control.processes import Running, answers, started
from msgspec import Struct

ROOT: Final = Path(__file__).parents[2]
USERS: Final = ("admin", "scheduler", "controllers", "contender", "kubelet", "driver", "observer")
QPS: Final = ("--kube-api-qps=2000", "--kube-api-burst=4000")
BASE_CONTROLLERS: Final = "garbage-collector-controller,namespace-controller,serviceaccount-controller,pod-garbage-collector-controller"
NODES: Final = 20
Storage = Literal["disk", "memory"]


class Stage(Struct, frozen=True, kw_only=True):
    """The running control plane; every user of it is an administrator, so priority and fairness hold nobody back."""

    folder: Path
    programs: Path
    url: str
    parts: dict[str, Running]

    def access(self, user: str) -> Access:
        """For programs of ours."""
        return Access(self.url, self.folder / "ca.pem", _token(user))

    def kubeconfig(self, user: str) -> Path:
        """For Kubernetes' programs, and for our controller."""
        return self.folder / f"{user}.kubeconfig"

    def pids(self) -> dict[str, int]:
        """Of all parts."""
        return {name: part.pid for name, part in self.parts.items()}


def programs() -> Path:
    """Where the built programs are.

    Raises:
        FileNotFoundError: they are not built.
    """
    found = Path(os.environ.get("LK_BIN") or ROOT / "tests" / "cluster" / "bin")
    if not (found / "kube-apiserver").exists():
        raise FileNotFoundError(f"no kube-apiserver in {found}; `tests/cluster/localkube build` makes it")
    return found


@contextlib.contextmanager
def stage(*, run_seconds: float, storage: Storage, keep_logs: Path | None = None) -> Iterator[Stage]:
    """Everything up and ready; `run_seconds` is how long a fake pod runs. Its logs are moved to `keep_logs` at the end."""
    where = "/dev/shm" if storage == "memory" else "/var/tmp"
    with tempfile.TemporaryDirectory(prefix="agenttask-stage-", dir=where) as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        if keep_logs is not None:
            stack.callback(_keep, folder, keep_logs)
        url = f"https://127.0.0.1:{free_port()}"
        _credentials(folder, url)
        found = Stage(folder=folder, programs=programs(), url=url, parts={})
        for start in (_etcd, _apiserver, _scheduler, _controllers):
            start(found, stack)
        command = [sys.executable, "-m", "bench.control.fake_kubelet", "--nodes", str(NODES), "--run-seconds", str(run_seconds)]
        environ = {"PYTHONPATH": str(ROOT), **found.access("kubelet").environment()}
        kubelet = stack.enter_context(started("fake-kubelet", command, folder, environ))
        kubelet.wait_until(lambda: "ready" in kubelet.log.read_text(), 30)
        found.parts["fake-kubelet"] = kubelet
        yield found


def _etcd(stage: Stage, stack: contextlib.ExitStack) -> None:
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    command = [
        f"{stage.programs}/etcd", "--name=bench", f"--data-dir={stage.folder}/etcd",
        f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=bench={peer}",
    ]  # fmt: skip
    etcd = stack.enter_context(started("etcd", command, stage.folder))
    etcd.wait_until(lambda: answers(f"{client}/health"), 30)
    (stage.folder / "etcd.address").write_text(client)
    stage.parts["etcd"] = etcd


def _apiserver(stage: Stage, stack: contextlib.ExitStack) -> None:
    folder = stage.folder
    command = [
        f"{stage.programs}/kube-apiserver", f"--etcd-servers={(folder / 'etcd.address').read_text()}",
        "--bind-address=127.0.0.1", f"--secure-port={stage.url.rsplit(':', 1)[1]}", "--endpoint-reconciler-type=none",
        f"--tls-cert-file={folder}/server.pem", f"--tls-private-key-file={folder}/server.key", f"--token-auth-file={folder}/tokens.csv",
        "--authorization-mode=RBAC", "--service-cluster-ip-range=10.97.0.0/16", "--service-account-issuer=https://bench.invalid",
        f"--service-account-key-file={folder}/server.pem", f"--service-account-signing-key-file={folder}/server.key",
        "--max-requests-inflight=2000", "--max-mutating-requests-inflight=1000",
    ]  # fmt: skip
    server = stack.enter_context(started("kube-apiserver", command, folder))
    access = stage.access("admin")
    server.wait_until(lambda: answers(f"{access.url}/readyz", roots=access.roots, token=access.token), 120)
    stage.parts["kube-apiserver"] = server


def _scheduler(stage: Stage, stack: contextlib.ExitStack) -> None:
    config = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "clientConnection": {"kubeconfig": str(stage.kubeconfig("scheduler")), "qps": 2000, "burst": 4000},
    }
    (stage.folder / "scheduler.json").write_text(json.dumps(config))
    port = free_port()
    command = [
        f"{stage.programs}/kube-scheduler",
        f"--config={stage.folder}/scheduler.json",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
    ]
    scheduler = stack.enter_context(started("kube-scheduler", command, stage.folder))
    scheduler.wait_until(lambda: answers(f"https://127.0.0.1:{port}/healthz"), 60)
    stage.parts["kube-scheduler"] = scheduler


def _controllers(stage: Stage, stack: contextlib.ExitStack) -> None:
    command, address = controller_manager(stage, "controllers", f"--controllers={BASE_CONTROLLERS}", *QPS)
    controllers = stack.enter_context(started("controllers", command, stage.folder))
    controllers.wait_until(lambda: answers(address), 60)
    stage.parts["controllers"] = controllers


def controller_manager(stage: Stage, user: str, *flags: str) -> tuple[list[str], str]:
    """The command of a kube-controller-manager, and the address that answers when it is healthy."""
    port, config = free_port(), stage.kubeconfig(user)
    command = [
        f"{stage.programs}/kube-controller-manager", f"--kubeconfig={config}", "--leader-elect=false", "--bind-address=127.0.0.1",
        f"--secure-port={port}", "--terminated-pod-gc-threshold=100000", "--profiling=false", *flags,
    ]  # fmt: skip
    return command, f"https://127.0.0.1:{port}/healthz"


def _credentials(folder: Path, url: str) -> None:
    """A throw-away authority, the server's certificate, a token and a kubeconfig for each user."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.private_key_pem.write_to_path(folder / "server.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "server.pem")
    (folder / "tokens.csv").write_text("".join(f"{_token(user)},bench:{user},{user},system:masters\n" for user in USERS))
    for user in USERS:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "bench", "cluster": {"server": url, "certificate-authority": str(folder / "ca.pem")}}],
            "users": [{"name": user, "user": {"token": _token(user)}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": user}}],
            "current-context": "bench",
        }
        (folder / f"{user}.kubeconfig").write_text(json.dumps(config))


def _token(user: str) -> str:
    """No secret: the server listens on loopback for a minute."""
    return f"bench-{user}"


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _keep(folder: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for log in folder.glob("*.log"):
        (target / log.name).write_bytes(log.read_bytes())
