"""Objects in a bucket of S3, Google or Azure: obstore's client, its options, and its errors in our words.

The library (15 MB of compiled Rust) is imported with the first object, in a thread. It takes bytes without a copy and sends
what is large in parts, outside of the event loop; its own retries have the pauses, ours is the bound on all of them.
"""

import asyncio
import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from agenttask.api.document import OutputStoreDocument
from agenttask.api.errors import AgentTaskError, NotHandedOver, OutputRejected
from agenttask.api.output_store import object_url
from agenttask.api.report import shorten
from agenttask.domain.nearest import quoted
from agenttask.domain.output_store import CLIENT_OPTIONS, STORE_OPTIONS, scheme_of

if TYPE_CHECKING:
    from obstore.store import ObjectStore

Open = Callable[[], "ObjectStore"]

_PART_BYTES: Final = 5 * 1024 * 1024
"""The least that S3 takes as a part."""
_PARTS_AT_ONCE: Final = 4
_TRY_SECONDS: Final = timedelta(seconds=60)
_RETRY: Final[dict[str, Any]] = {
    "max_retries": 1000,
    "retry_timeout": timedelta(minutes=3),
    "backoff": {"init_backoff": timedelta(milliseconds=250), "max_backoff": timedelta(seconds=10), "base": 2},
}
"""By time, not by number; credentials and signatures are made once for all tries of a request."""

_OF_THE_CLIENT: Final = frozenset(
    {
        "connect_timeout", "default_content_type", "http1_only", "http2_keep_alive_interval", "http2_keep_alive_timeout",
        "http2_keep_alive_while_idle", "http2_max_frame_size", "http2_only", "pool_idle_timeout", "pool_max_idle_per_host",
        "proxy_ca_certificate", "randomize_addresses", "timeout", "user_agent",
    }
)  # fmt: skip
"""obstore 0.12 breaks (a panic of Rust, no exception) where one of these stands among a store's options; settings refuse them."""

_PREFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "s3": ("aws_",),
    "gs": ("google_",),
    "az": ("azure_storage_", "azure_"),
}
_PLACES: Final = frozenset({"bucket", "bucket_name", "container", "container_name"})
_SHORTEST_SECRET: Final = 4
_SAID_CHARACTERS: Final = 400
_STATUS: Final = re.compile(r"status code: (\d{3})([ \w]*)(?:: (.*))?", re.DOTALL)
_CODE: Final = re.compile(r"<Code>([^<]*)</Code>")
_MESSAGE: Final = re.compile(r"<Message>([^<]*)</Message>")
_AGAIN: Final = frozenset({408, 425, 429})
_SERVER_ERRORS: Final = 500
_NO_IDENTITY: Final = ("/latest/api/token", "/latest/meta-data", "/computeMetadata/", "/metadata/identity")
"""Where the client asks for an identity when it was given no credential."""


class StoreObjects:
    """A bucket and prefix.

    Args:
        document: what the installation says of it.
        secret: what its Secret has, by its keys.
        open_store: makes the client; by default obstore's for the document.
    """

    def __init__(self, document: OutputStoreDocument, secret: Mapping[str, str], *, open_store: Open | None = None) -> None:
        self._document = document
        self._options = merged(scheme_of(document.url), document.options, secret)
        self._hidden = _hidden(scheme_of(document.url), secret)
        self._open = open_store or self._client

    def __repr__(self) -> str:
        """Without what is secret."""
        return f"StoreObjects({self._document.url})"

    async def put(self, key: str, content: bytes) -> None:
        """Write an object whole, or not at all."""
        url = object_url(self._document.url, key)
        taken = sorted(_PLACES & self._options.keys())
        if taken:
            raise OutputRejected(f"{self._of_secret()} says {quoted(taken[0])}, which outputStore.url says already; take it out")
        foreign = sorted(_OF_THE_CLIENT & self._options.keys())
        if foreign:
            raise OutputRejected(f"{self._of_secret()} says {quoted(foreign[0])}, which is set for all stores; take it out")
        try:
            # A fifth of a second that the event loop need not stand still for.
            await asyncio.to_thread(importlib.import_module, "obstore.store")
            store = self._open()
            await store.put_async(key, content, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE)
        except ImportError as error:
            problem = f"this image has no client for object stores: {error}; use a runner image of the controller's version"
            raise OutputRejected(f"the output ({len(content)} bytes) could not be left at {url}: {problem}") from error
        except Exception as error:  # noqa: BLE001 - the library's own, OSError and ValueError among them
            raise self._typed(error, url, len(content)) from None  # its text has the request, and may have the credential

    def _client(self) -> "ObjectStore":
        from obstore.store import from_url

        client = {name: value for name, value in self._options.items() if name in CLIENT_OPTIONS}
        options: Any = {name: value for name, value in self._options.items() if name not in CLIENT_OPTIONS}
        settings: Any = {**client, "timeout": _TRY_SECONDS}
        retry: Any = _RETRY
        return from_url(self._document.url, config=options, client_options=settings, retry_config=retry)

    def _typed(self, error: Exception, url: str, size: int) -> AgentTaskError:
        """What the store said, whether it is worth another try, and what to do."""
        text = str(error).partition("\n\nDebug source:")[0]
        status, said = _told(text)
        for value in self._hidden:
            said = said.replace(value, "***")
        what = f"the output ({size} bytes) could not be left at {url}: {shorten(said, _SAID_CHARACTERS)}"
        if any(sign in text for sign in _NO_IDENTITY):
            return OutputRejected(f"{what}; {self._without_identity()}")
        if isinstance(error, FileNotFoundError) or status == 404:
            return OutputRejected(f"{what}; is there such a bucket or account? See outputStore.url and options (region, endpoint)")
        if _passing(error, text, status):
            return NotHandedOver(what)
        if status in (401, 403) or type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError"):
            return OutputRejected(f"{what}; check {self._of_secret()}, and that it may write there")
        return OutputRejected(f"{what}; check outputStore.options and {self._of_secret()}")

    def _of_secret(self) -> str:
        name = self._document.secret
        return f"the Secret {quoted(name)}" if name else "the identity of the pod's service account"

    def _without_identity(self) -> str:
        if self._document.secret:
            return f"{self._of_secret()} has no credential of the store among its keys, and the pod has no identity of its own"
        return "the pod has no identity at the store: name a Secret in outputStore.secretName, or give its service account one"


def merged(scheme: str, options: Mapping[str, str], secret: Mapping[str, str]) -> dict[str, str]:
    """Options by one name each; what the Secret has wins."""
    found = dict(options)
    for key, value in secret.items():
        found[_plain(scheme, key)] = value.strip()
    return found


def _plain(scheme: str, key: str) -> str:
    """An option's name without its store's prefix, which it may have or not."""
    name = key.lower()
    return next((name.removeprefix(prefix) for prefix in _PREFIXES[scheme] if name.startswith(prefix)), name)


def _hidden(scheme: str, secret: Mapping[str, str]) -> tuple[str, ...]:
    """What no message may show: all of the Secret but what might as well stand in the options."""
    known = STORE_OPTIONS[scheme] | CLIENT_OPTIONS
    values = (value.strip() for key, value in secret.items() if _plain(scheme, key) not in known)
    return tuple(sorted((value for value in values if len(value) >= _SHORTEST_SECRET), key=len, reverse=True))


def _told(text: str) -> tuple[int | None, str]:
    """The status and what the server said: of S3's XML the code and the message, else the text as it is."""
    found = _STATUS.search(text)
    if found is None:
        return None, " ".join(text.split())
    number, phrase, body = found[1], found[2].strip(), found[3] or ""
    words = [f"{number} {phrase}".strip(), *_of_xml(body)]
    return int(number), ": ".join(words)


def _of_xml(body: str) -> Iterator[str]:
    code, message = _CODE.search(body), _MESSAGE.search(body)
    if code is None and message is None:
        plain = " ".join(body.split())
        yield from [plain] if plain else []
    for found in (code, message):
        if found is not None and found[1]:
            yield found[1]


def _passing(error: Exception, text: str, status: int | None) -> bool:
    """Whether the same may go well later: a server's failure, or a connection that did not come about or broke."""
    if status is not None:
        return status >= _SERVER_ERRORS or status in _AGAIN
    return type(error).__name__ == "GenericError" and "HTTP error" in text and "builder error" not in text
