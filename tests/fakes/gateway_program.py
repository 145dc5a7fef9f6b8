"""The controller's own gateway for a runner to ask: its application and socket, over a fake API server's store."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from agenttask.api.document import GatewayDocument
from agenttask.api.task import AgentTaskStatus
from agenttask.controller.gateway.identity import SecretIdentity
from agenttask.controller.gateway.listener import Doors, listen
from agenttask.controller.gateway.server import Gateway
from tests.fakes.gateway_desk import Counter, SecretFolder
from tests.fakes.own_thread import in_own_thread
from tests.fakes.seen import UID, task


class Replica:
    """One replica's gateway; `leads` is whether it is the leader, `counter` what it stands on."""

    def __init__(self) -> None:
        self.counter = Counter()
        self.leads = True

    def token(self, attempt: int) -> str:
        """Of an attempt of the task that `seen.task()` makes."""
        return self.counter.token(attempt)

    def now_runs(self, attempt: int) -> None:
        """From now on it is this attempt that may speak."""
        self.counter.caches.tasks[UID] = task(AgentTaskStatus(attempt=attempt, ended_attempts=attempt - 1))


@asynccontextmanager
async def serving(replica: Replica, folder: Path) -> AsyncIterator[GatewayDocument]:
    """Its document, while it answers as `localhost`; `folder` is an empty one for its Secret."""
    secret = SecretFolder(folder, host="localhost")
    gateway = Gateway(replica.counter.desk, leading=lambda: replica.leads, ready=lambda: None)
    async with listen(gateway.application(), SecretIdentity(folder), port=0, doors=Doors(), host="127.0.0.1") as port:
        yield GatewayDocument(url=f"https://localhost:{port}", ca=secret.authority.cert_pem.bytes().decode())


@contextmanager
def in_thread(replica: Replica, folder: Path) -> Iterator[GatewayDocument]:
    """The same for other processes."""
    with in_own_thread(serving(replica, folder)) as document:
        yield document
