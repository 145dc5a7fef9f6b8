"""The mounted Secret: certificate, key, CA and token keys, read again when the kubelet has replaced them.

The same SSLContext stays; what is loaded into it holds for the connections that come after. A Secret that is half
written, or wrong, is told in the log, and what was there before goes on.
"""

import logging
import ssl
from pathlib import Path
from typing import Final

from msgspec import Struct

from agenttask.controller.gateway.tokens import BadKey, Tokens, read_keys

logger: Final = logging.getLogger(__name__)
CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"
CA: Final = "ca.crt"
TOKEN_KEY: Final = "token.key"  # noqa: S105 - a file's name
_FILES: Final = (CERTIFICATE, KEY, CA, TOKEN_KEY)


class BadIdentity(ValueError):
    """The folder has not what the gateway needs; the message names the file and the remedy."""


class _Read(Struct, frozen=True):
    """One state of the folder: by its files' times and places, so that an unchanged one is not read again."""

    stamp: tuple[tuple[int, int, int], ...]
    tokens: Tokens
    ca: str


class SecretIdentity:
    """What the folder said when it was last whole.

    Raises:
        BadIdentity: it is not at the start.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.context = _context()
        self._now = self._read()

    @property
    def tokens(self) -> Tokens:
        """Issues and reads tokens."""
        return self._now.tokens

    @property
    def ca(self) -> str:
        """The PEM of the CA that signed the certificate."""
        return self._now.ca

    def refresh(self) -> bool:
        """Read again what has changed; whether it did, and was taken."""
        try:
            if self._stamp() == self._now.stamp:
                return False
            self._now = self._read()
        except (BadIdentity, OSError) as error:
            logger.error("the gateway goes on with the certificate that it has: %s", error)  # noqa: TRY400 - a traceback tells nothing
            return False
        logger.info("the gateway has read a new certificate from %s", self._folder)
        return True

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        stats = [(self._folder / name).stat() for name in _FILES]
        return tuple((one.st_mtime_ns, one.st_ino, one.st_size) for one in stats)

    def _read(self) -> _Read:
        try:
            stamp = self._stamp()
            ca = (self._folder / CA).read_text("ascii")
            keys = read_keys((self._folder / TOKEN_KEY).read_bytes())
        except (OSError, UnicodeDecodeError) as error:
            raise BadIdentity(f"the gateway's Secret needs {', '.join(_FILES)}: {error}") from error
        try:
            tokens = Tokens(keys)
        except BadKey as error:
            raise BadIdentity(f"{self._folder / TOKEN_KEY}: {error}") from error
        self._check(ca)
        self._load(_context())  # a certificate that does not fit its key must not reach the context in use
        self._load(self.context)
        return _Read(stamp, tokens, ca)

    def _check(self, ca: str) -> None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=ca)
        except (ssl.SSLError, ValueError) as error:
            raise BadIdentity(f"{self._folder / CA} is no PEM certificate: {error}") from error

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(self._folder / CERTIFICATE, self._folder / KEY)
        except (ssl.SSLError, OSError) as error:
            raise BadIdentity(f"{CERTIFICATE} and {KEY} in {self._folder} are no pair: {error}") from error


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.num_tickets = 0  # connections are few and short: nothing is resumed
    return context
