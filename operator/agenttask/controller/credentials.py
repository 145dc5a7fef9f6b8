"""Where the API server is, how to know it, and who we are there."""

import ssl

from msgspec import Struct

from agenttask.controller.authority import CaFile
from agenttask.controller.tokens import TokenSource


class LoginError(Exception):
    """There are no credentials, or they cannot be used; the message says what to do."""


class Credentials(Struct, frozen=True, kw_only=True):
    """What a connection needs; a client certificate is part of `tls`, `namespace` is where we live (or the context's).

    `authority` is where the CA in `tls` comes from, if that may change.
    """

    server: str
    tls: ssl.SSLContext | None = None
    authority: CaFile | None = None
    token: TokenSource | None = None
    namespace: str | None = None
    proxy: str | None = None
