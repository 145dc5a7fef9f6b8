"""Which hosts a step may talk to: URLs read strictly, and held against the installation's list.

What two parsers read differently is refused, never guessed at: backslashes, user names, numbers in place of an address
(`2130706433`, `0x7f.1`), zones. Both sides go through one reading, so case, IDNA and a trailing dot make no difference.
A pattern is `api.example.com`, `*.example.com` (anything below it, not itself) or an IP address, with `:port` where it is
not the scheme's own.
"""

import ipaddress
import re
from collections.abc import Sequence

from msgspec import Struct
from yarl import URL

from agenttask.api.errors import InvalidTask, StepFailed
from agenttask.api.report import shorten

PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label by which a host is read as an IPv4 address, however it is written."""
_FORM = re.compile(r"https?://[^/?#]", re.IGNORECASE)
_CREDENTIALS = re.compile(r"\s*(https?:/*[^/?#]*|[a-z][a-z0-9+.-]*:/*[^/?#]*:[^/?#]*)@", re.IGNORECASE)
"""Looked for before anything else is said of a URL: no message shows a password, of whatever scheme."""
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]")
_SHOWN_CHARACTERS = 200


class Target(Struct, frozen=True, kw_only=True):
    """Where a URL leads; `host` is lower-case ASCII, or an IP address as ipaddress writes it."""

    url: URL
    scheme: str
    host: str
    port: int

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The host, where it is an IP address."""
        return _address(self.host)

    @property
    def authority(self) -> str:
        """Host and port as the header Host has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """Whom headers are meant for."""
        return self.scheme, self.host, self.port


def target_of(text: str) -> Target:
    """Where `text` leads.

    Raises:
        StepFailed: it is no plain http or https URL.
    """
    if _CREDENTIALS.match(text):
        raise StepFailed("the url holds a user name or password; give it as a header with `secretKeyRef`, or as `credentials`")
    shown = shorten(repr(text), _SHOWN_CHARACTERS)
    if _FORBIDDEN.search(text):
        raise StepFailed(f"url {shown} holds a space, a control character or a backslash; percent-encode it")
    if not _FORM.match(text):
        raise StepFailed(f"url {shown} is no http or https URL, as https://api.example.com/v1")
    try:
        url = URL(text)
        host, port = url.raw_host, url.port
    except (ValueError, UnicodeError) as error:
        raise StepFailed(f"url {shown} cannot be read: {shorten(str(error), _SHOWN_CHARACTERS)}") from error
    if not host or not port:
        raise StepFailed(f"url {shown} names no host or no port")
    plain = _plain(host)
    if plain is None:
        raise StepFailed(f"url {shown} names the host {host!r}, which is neither a name nor an IP address in its usual form")
    return Target(url=url.with_host(plain).with_fragment(None), scheme=url.scheme, host=plain, port=port)


class AllowedHosts:
    """The installation's list."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Read it.

        Raises:
            InvalidTask: a pattern is none.
        """
        self._patterns = [_pattern(text) for text in patterns]
        self._shown = ", ".join(patterns) or "none"

    def check(self, target: Target, field: str) -> None:
        """See that `target` is on the list.

        Raises:
            InvalidTask: it is not; the message names the list.
        """
        if not any(pattern.permits(target) for pattern in self._patterns):
            raise InvalidTask(
                field, f"the installation does not allow steps to talk to {target.authority!r}; hosts it allows: {self._shown}"
            )

    def names_itself(self, target: Target) -> bool:
        """Whether the list has this very IP address, or `localhost` itself: only then is a loopback address meant."""
        literal = target.host == "localhost" or target.address is not None
        return literal and any(not pattern.below and pattern.permits(target) for pattern in self._patterns)


class _Pattern(Struct, frozen=True, kw_only=True):
    host: str
    below: bool
    port: int | None

    def permits(self, target: Target) -> bool:
        if target.port != (PORTS[target.scheme] if self.port is None else self.port):
            return False
        if self.below:
            return target.address is None and target.host.endswith(f".{self.host}")
        return target.host == self.host


def _pattern(text: str) -> _Pattern:
    below, rest = text.startswith("*."), text.removeprefix("*.")
    try:
        bare = f"[{rest}]" if isinstance(_address(rest), ipaddress.IPv6Address) else rest
        url = URL(f"http://{bare}")
        host, port, well = _plain(url.raw_host or ""), url.explicit_port, not set("/?#@\\ ") & set(rest)
    except (ValueError, UnicodeError):
        host, port, well = None, None, False
    if host is None or not well or port == 0 or (below and _address(host) is not None):
        raise InvalidTask(
            "", f"the installation allows the host {text!r}, which is no pattern; use api.example.com, *.example.com or host:port"
        )
    return _Pattern(host=host, below=below, port=port)


def _plain(host: str) -> str | None:
    """The one way to write it; None where it is no host that all readers agree on."""
    host = host.lower().removesuffix(".")
    if ":" in host:
        return None if "%" in host else _written(host)
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        return host if _written(host) == host else None
    return host if _NAME.fullmatch(host) else None


def _written(host: str) -> str | None:
    address = _address(host)
    return None if address is None else str(address)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
