"""The cluster's authority as a file that changes under way, and the aiohttp middleware that follows it.

When a cluster's CA is replaced, the kubelet replaces the `ca.crt` of every pod, somebody replaces the file that a
kubeconfig names, and the API server comes back with a certificate of the new one. Whoever reads the file only at the
start is locked out until somebody restarts it. What was trusted before stays trusted until the process ends.
"""

import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

import aiohttp

logger: Final = logging.getLogger(__name__)
REREAD_SECONDS: Final = 60.0


class CaFile:
    """Read into `context` at most once a minute, or when a certificate is refused.

    Raises:
        OSError: the file cannot be read.
        ssl.SSLError: it holds no certificate in PEM.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path, self._clock = path, clock
        self._read = path.read_bytes()
        self._read_at = clock()
        self.context = ssl.create_default_context(cafile=path)

    def refresh(self, *, refused: bool = False) -> bool:
        """Take in what is new in the file, if it is time; whether there was anything."""
        now = self._clock()
        if now - self._read_at < REREAD_SECONDS and not refused:
            return False
        self._read_at = now
        try:
            found = self._path.read_bytes()
            if found == self._read:
                return False
            self.context.load_verify_locations(cadata=found.decode("ascii"))
        except (OSError, ssl.SSLError, ValueError) as error:
            logger.warning("%s cannot be read, the authority that is known is used on: %s", self._path, error)
            return False
        self._read = found
        logger.info("%s has changed and is trusted from now on", self._path)
        return True


def following(authority: CaFile) -> aiohttp.ClientMiddlewareType:
    """Middleware that keeps the authority fresh, and tries once more when a certificate was refused and the file is another by now."""

    async def verify(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        authority.refresh()
        try:
            return await handler(request)
        except aiohttp.ClientConnectorCertificateError:
            if not authority.refresh(refused=True):
                raise
            return await handler(request)

    return verify
