"""The controller's end of the gateway for tests: a desk on the fake API server's store, and a Secret's folder with a certificate."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trustme

from agenttask.api.gateway import TokenClaims
from agenttask.api.model import AgentModelSpec
from agenttask.controller.gateway.desk import Desk
from agenttask.controller.gateway.records import Records
from agenttask.controller.gateway.tokens import Tokens
from agenttask.domain.observation import SeenPod, SeenTask
from tests.fakes.apiserver_store import Store
from tests.fakes.seen import CREATED, UID, task
from tests.fakes.store_writer import StoreWriter

HOST = "agenttask-gateway.agents.svc"
KEY = b"k" * 32


class FixedIdentity:
    """One key and one CA."""

    tokens = Tokens((KEY,))
    ca = "the CA"


class Caches:
    """What the controller would know; a test changes it as it likes."""

    def __init__(self) -> None:
        self.tasks: dict[str, SeenTask] = {UID: task()}
        self.on_server: set[str] = set()
        self.pods: dict[str, SeenPod] = {}
        self.used: dict[str, AgentModelSpec] = {}
        self.other: dict[str, str] = {}

    def task(self, uid: str) -> SeenTask | None:
        """The task."""
        return self.tasks.get(uid)

    async def over(self, claims: TokenClaims) -> bool:
        """Whether the API server would say so."""
        return claims.uid not in self.on_server

    def pod(self, uid: str, name: str) -> SeenPod | None:
        """Its pod of any name."""
        del name
        return self.pods.get(uid)

    def models(self, task: SeenTask, pod: SeenPod | None) -> Mapping[str, AgentModelSpec]:
        """The models of every task."""
        del task, pod
        return self.used

    def elsewhere(self, task: SeenTask, pod: SeenPod | None) -> Mapping[str, str]:
        """Those of them that are another AgentModel there."""
        del task, pod
        return self.other


class Counter:
    """A desk and all that it stands on; `now` is its clock, `woken` are the tasks that it had looked at."""

    def __init__(self) -> None:
        self.now = CREATED
        self.store, self.caches = Store(), Caches()
        self.writer = StoreWriter(self.store)
        self.records = Records(self.writer, lambda: self.now)
        self.woken: list[str] = []
        self.desk = Desk(
            view=self.caches,
            records=self.records,
            wake=self.woken.append,
            identity=FixedIdentity(),
            url=f"https://{HOST}:8443",
            clock=lambda: self.now,
        )

    def token(self, attempt: int = 1, **fields: Any) -> str:
        """The token of an attempt of the task that `seen.task()` makes."""
        named = {"namespace": "agents", "task": "review", "uid": UID, "expires": int(CREATED) + 1000} | fields
        return FixedIdentity.tokens.issue(TokenClaims(attempt=attempt, **named))


class SecretFolder:
    """What the kubelet mounts; `write` puts a new certificate there, of the same CA."""

    def __init__(self, folder: Path, *, host: str = HOST) -> None:
        self.folder, self._host = folder, host
        self.authority = trustme.CA()
        self.write()
        (folder / "token.key").write_bytes(KEY)

    def write(self) -> None:
        """A new certificate and its key."""
        made = self.authority.issue_cert(self._host)
        (self.folder / "tls.crt").write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        (self.folder / "tls.key").write_bytes(made.private_key_pem.bytes())
        (self.folder / "ca.crt").write_bytes(self.authority.cert_pem.bytes())

    def trusting(self) -> ssl.SSLContext:
        """A client's context that knows the CA."""
        return ssl.create_default_context(cadata=(self.folder / "ca.crt").read_text())
