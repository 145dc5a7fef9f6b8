"""One connection to the API server, shared by our client and kopf, whose token and authority follow their rotation.

In a pod the credentials are the service account's files; outside, the kubeconfig's current context
(controller/kubeconfig.py). The proxy variables of the environment are not honoured: the API server is a neighbour.
"""

import asyncio
import random as randomness
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import kopf

from agenttask.controller import kubeconfig
from agenttask.controller.authority import CaFile, following
from agenttask.controller.backoff import Backoff
from agenttask.controller.credentials import Credentials, LoginError
from agenttask.controller.stream_errors import closed_under_way, survive
from agenttask.controller.tokens import FileToken, bearer
from agenttask.controller.watch_pace import WatchPace

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
RELOGINS: Final = Backoff(initial=0.5, maximum=30.0)
USER_AGENT: Final = "agenttask-controller"


async def find_credentials(
    environ: Mapping[str, str],
    *,
    home: Path | None = None,
    service_account: Path = SERVICE_ACCOUNT,
    clock: Callable[[], float] = time.monotonic,
) -> Credentials:
    """KUBECONFIG if set, else the pod's service account, else `~/.kube/config`.

    Raises:
        LoginError: none of them is there, or the one that is cannot be used.
    """
    if environ.get("KUBECONFIG"):
        return await kubeconfig.load(environ["KUBECONFIG"], clock=clock)
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
    if host:
        return in_cluster(host, port, service_account, clock)
    usual = (Path.home() if home is None else home) / ".kube" / "config"
    if usual.is_file():
        return await kubeconfig.load(str(usual), clock=clock)
    raise LoginError(f"no credentials: KUBECONFIG is not set, this is no pod (KUBERNETES_SERVICE_HOST is not set), and there is no {usual}")


def in_cluster(host: str, port: str, service_account: Path, clock: Callable[[], float]) -> Credentials:
    """The pod's service account.

    Raises:
        LoginError: its files are not mounted.
    """
    try:
        authority = CaFile(service_account / "ca.crt", clock)
        namespace = (service_account / "namespace").read_text().strip()
    except (OSError, ssl.SSLError) as error:
        raise LoginError(f"no usable service account in {service_account}: {error}; is automountServiceAccountToken false?") from error
    address = f"[{host}]" if ":" in host else host
    return Credentials(
        server=f"https://{address}:{port}",
        tls=authority.context,
        authority=authority,
        token=FileToken(service_account / "token", clock),
        namespace=namespace or None,
    )


class Connection:
    """The pool of connections to the API server; open it with `async with`.

    The pool has no limit of its own: every watch holds a connection for ever, and writes are as many as there are drivers.
    """

    def __init__(self, credentials: Credentials, *, random: Callable[[], float] = randomness.random) -> None:
        self.server = credentials.server
        self.namespace = credentials.namespace
        self._credentials = credentials
        self._random = random
        self._pace = WatchPace(random=random)
        self._logins = 0

    async def __aenter__(self) -> Self:
        self._connector = aiohttp.TCPConnector(limit=0, ssl=self._credentials.tls if self._credentials.tls is not None else True)
        self.session = self._open(outer=(), inner=())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.session.close()
        await self._connector.close()

    def _open(
        self, *, outer: Sequence[aiohttp.ClientMiddlewareType], inner: Sequence[aiohttp.ClientMiddlewareType]
    ) -> aiohttp.ClientSession:
        """A session on the shared pool; closing it leaves the pool open."""
        token, authority = self._credentials.token, self._credentials.authority
        own = (
            *(() if authority is None else (following(authority),)),
            *(() if token is None else (bearer(token, self.server),)),
        )
        return aiohttp.ClientSession(
            connector=self._connector,
            connector_owner=False,
            middlewares=(*outer, *own, *inner),
            proxy=self._credentials.proxy,
            headers={"User-Agent": USER_AGENT},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    def login(self) -> Callable[..., Awaitable[kopf.AiohttpSession]]:
        """A handler for `kopf.on.login`.

        kopf closes the session that it was given after a 401 and asks for another one, at once and for ever: so each
        login is a session of its own on the shared pool, and the later ones wait.
        """

        async def connect(**_: Any) -> kopf.AiohttpSession:
            if self._logins:
                await asyncio.sleep(RELOGINS.delay(self._logins, self._random))
            self._logins += 1
            session = self._open(outer=(survive, self._pace), inner=(closed_under_way,))
            return kopf.AiohttpSession(server=self.server, aiohttp_session=session, default_namespace=self.namespace)

        return connect
