"""TLS contexts: one for the system's certificates and one for each CA bundle, each with a twin that offers HTTP/2.

aiohttp's own HTTP/1.1 must never offer `h2`, hence two of each. Reading a bundle costs some 40 ms: they are kept.
"""

import ssl

from agenttask.api.errors import InvalidTask

_HTTP1 = ["http/1.1"]
_BOTH = ["h2", "http/1.1"]
_HTTP2 = ["h2"]


class TlsContexts:
    """Contexts by CA bundle."""

    def __init__(self) -> None:
        self._plain: dict[str, ssl.SSLContext] = {}
        self._twins: dict[tuple[ssl.SSLContext | bool, bool], ssl.SSLContext] = {}

    def trusting(self, ca_file: str) -> ssl.SSLContext:
        """For requests that verify with this bundle, whatever protocol they get.

        Raises:
            InvalidTask: the bundle cannot be read.
        """
        if ca_file not in self._plain:
            self._plain[ca_file] = _make(ca_file, _HTTP1)
        return self._plain[ca_file]

    def offering_http2(self, *, context: ssl.SSLContext | bool, only: bool) -> ssl.SSLContext | None:
        """The twin of a request's context that offers HTTP/2, and HTTP/1.1 unless `only`; None for a context that is not ours."""
        if (context, only) not in self._twins:
            made = self._twin(context=context, protocols=_HTTP2 if only else _BOTH)
            if made is None:
                return None
            self._twins[context, only] = made
        return self._twins[context, only]

    def _twin(self, *, context: ssl.SSLContext | bool, protocols: list[str]) -> ssl.SSLContext | None:
        if context is True:
            return _make(None, protocols)
        if context is False:
            unverified = _make(None, protocols)
            unverified.check_hostname = False
            unverified.verify_mode = ssl.CERT_NONE
            return unverified
        for ca_file, ours in self._plain.items():
            if ours is context:
                return _make(ca_file, protocols)
        return None


def _make(ca_file: str | None, protocols: list[str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise InvalidTask("", f"the CA bundle {ca_file!r} cannot be read: {error}; it must be certificates in PEM") from error
    context.set_alpn_protocols(protocols)
    return context
