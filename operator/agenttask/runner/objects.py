"""Objects in a bucket of S3, Google or Azure: obstore's client, its options, and its errors in our words.

The library (15 MB of compiled Rust) is imported with the first object, in a thread. It takes bytes without a copy and sends
what is large in parts, outside of the event loop. The first try is made without the library's retries, so that what no retry
mends is told at once; what may pass is left to them, and the bound on all of it is the caller's.
"""

import asyncio
import importlib
import itertools
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
_AGAIN_TIME: Final = timedelta(minutes=3)
_FIRST_PAUSE_SECONDS: Final = 0.25
_LONGEST_PAUSE_SECONDS: Final = 10.0
_DOUBLINGS: Final = 6
_ONCE: Final[dict[str, Any]] = {"max_retries": 0}
_RETRY: Final[dict[str, Any]] = {
    "max_retries": 1000,
    "retry_timeout": _AGAIN_TIME,
    "backoff": {"init_backoff": timedelta(milliseconds=250), "max_backoff": timedelta(seconds=10), "base": 2},
}
"""By time, not by number; credentials and signatures are made once for all tries of a request."""

_OF_THE_CLIENT: Final = frozenset(
    {
        "connect_timeout", "default_content_type", "default_headers", "http1_only", "http2_keep_alive_interval", "http2_keep_alive_timeout",
        "http2_keep_alive_while_idle", "http2_max_frame_size", "http2_only", "pool_idle_timeout", "pool_max_idle_per_host",
        "proxy_ca_certificate", "randomize_addresses", "read_timeout", "timeout", "user_agent",
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
_PASSING_CODES: Final = frozenset({"OperationAborted", "RequestTimeTooSkewed", "RequestTimeout"})
"""S3 says them with 400, 403 and 409, for which the library does not try again.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""
_PANIC: Final = "PanicException"
"""Of pyo3, where the library breaks; it is no Exception."""
_NOT_TRUSTED: Final = ("InvalidCertificate(", "InvalidContentType")
"""rustls' words for a certificate that does not hold, and for an answer that is none of TLS."""
_NO_SUCH_HOST: Final = ("Name or service not known", "No address associated with hostname", "Name does not resolve")
"""The C libraries' words for a name that their name server does not have; that it did not answer has others."""
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
        self._open = open_store

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
        what = f"the output ({len(content)} bytes) could not be left at {url}"
        if self._document.secret and self._without_credential():
            raise OutputRejected(f"{what}: {self._without_identity()}")
        try:
            # A fifth of a second that the event loop need not stand still for.
            await asyncio.to_thread(importlib.import_module, "obstore.store")
        except ImportError as error:
            remedy = "use a runner image of the controller's version"
            raise OutputRejected(f"{what}: this image has no client for object stores: {error}; {remedy}") from error
        ends = asyncio.get_running_loop().time() + _AGAIN_TIME.total_seconds()
        for tries in itertools.count():
            problem = await self._try(key, content, _RETRY if tries else _ONCE)
            if problem is None:
                return
            pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(tries - 1, _DOUBLINGS)) if tries else 0.0
            tried = tries > 0 and _code(str(problem)) not in _PASSING_CODES  # the library has tried for as long
            if tried or not _passing(problem) or asyncio.get_running_loop().time() + pause > ends:
                raise self._typed(problem, what) from None  # its text has the request, and may have the credential
            await asyncio.sleep(pause)

    async def _try(self, key: str, content: bytes, retry: Mapping[str, Any]) -> BaseException | None:
        """Why it failed."""
        try:
            store = self._client(retry) if self._open is None else self._open()
            await store.put_async(key, content, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE)
        except BaseException as error:
            if isinstance(error, Exception) or type(error).__name__ == _PANIC:
                return error  # the library's own, OSError and ValueError among them
            raise
        return None

    def _client(self, retry: Mapping[str, Any] = _RETRY) -> "ObjectStore":
        from obstore.store import from_url

        client = {name: value for name, value in self._options.items() if name in CLIENT_OPTIONS}
        options: Any = {name: value for name, value in self._options.items() if name not in CLIENT_OPTIONS}
        settings: Any = {**client, "timeout": _TRY_SECONDS}
        tries: Any = dict(retry)
        return from_url(self._document.url, config=options, client_options=settings, retry_config=tries)

    def _typed(self, error: BaseException, what: str) -> AgentTaskError:
        """What the store said, whether it is worth another attempt, and what to do."""
        text, source = _parts(error)
        for value in self._hidden:
            text = text.replace(value, "***")
        status, said = _told(text)
        for value in self._hidden:
            said = said.replace(" ".join(value.split()), "***")
        what = f"{what}: {shorten(said, _SAID_CHARACTERS)}"
        if status is None and any(sign in source for sign in _NOT_TRUSTED):
            remedy = "check outputStore.options (root_certificate for an authority of your own, and the endpoint's scheme and port)"
            return OutputRejected(f"{what}: its certificate is not trusted, or it speaks no TLS; {remedy}")
        if status is None and any(sign in source for sign in _NO_SUCH_HOST):
            return OutputRejected(f"{what}: there is no host of that name; check outputStore.url and options (region, endpoint)")
        if any(sign in text for sign in _NO_IDENTITY):
            return OutputRejected(f"{what}; {self._without_identity()}")
        if isinstance(error, FileNotFoundError) or status == 404:
            return OutputRejected(f"{what}; is there such a bucket or account? See outputStore.url and options (region, endpoint)")
        if _passing(error):
            return NotHandedOver(what)
        if status in (401, 403) or type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError"):
            return OutputRejected(f"{what}; check {self._of_secret()}, and that it may write there")
        return OutputRejected(f"{what}; check outputStore.options and {self._of_secret()}")

    def _of_secret(self) -> str:
        name = self._document.secret
        return f"the Secret {quoted(name)}" if name else "the identity of the pod's service account"

    def _without_credential(self) -> bool:
        """Whether the Secret has options only; a key that is none is the library's to name."""
        known = STORE_OPTIONS[scheme_of(self._document.url)] | CLIENT_OPTIONS
        return not self._options.keys() - known and self._options.get("skip_signature") != "true"

    def _without_identity(self) -> str:
        if self._document.secret:
            remedy = "add one, or take outputStore.secretName out for the identity of the pod"
            return f"{self._of_secret()} has no credential of the store among its keys; {remedy}"
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
    known = (STORE_OPTIONS[scheme] | CLIENT_OPTIONS) - {"proxy_url"}  # which may have a password
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


def _parts(error: BaseException) -> tuple[str, str]:
    """The library's words, and the causes below them as Rust prints them."""
    text, _, source = str(error).partition("\n\nDebug source:")
    return text, source


def _code(text: str) -> str:
    """Of S3's answer."""
    found = _CODE.search(text)
    return "" if found is None else found[1]


def _passing(error: BaseException) -> bool:
    """Whether the same may go well later: a server's failure, or a connection that did not come about or broke."""
    text, source = _parts(error)
    status = _STATUS.search(text)
    if status is not None:
        number = int(status[1])
        return number >= _SERVER_ERRORS or number in _AGAIN or _code(text) in _PASSING_CODES
    if type(error).__name__ != "GenericError" or any(sign in source for sign in _NOT_TRUSTED):
        return False
    return "HTTP error" in text and "builder error" not in text
