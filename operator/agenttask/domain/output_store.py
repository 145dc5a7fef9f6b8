"""What may be said of an object store, and which of a report's words about it are believed.

The controller's image has no client for object stores, so options are known here by name: a wrong one stops the controller at
its start instead of failing the first task with a large output.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct

from agenttask.api.meta import ObjectMeta
from agenttask.api.output_store import MAX_STORE_URL, object_url, output_key
from agenttask.api.report import ObjectReport, shorten
from agenttask.api.task import OutputRef
from agenttask.domain.nearest import did_you_mean, listed, quoted

_URL: Final = re.compile(r"(s3|gs|az)://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/(?!\.{1,2}(/|$))[A-Za-z0-9._=-]+)*", re.ASCII)
_SHOWN_URL: Final = 360
"""Two of them and a sentence fit a message."""
_SCHEMES: Final = ("s3", "gs", "az")

StoreOption = str | bool
CLIENT_OPTIONS: Final = frozenset({"allow_http", "allow_invalid_certificates", "proxy_url", "proxy_excludes", "root_certificate"})
"""Of the connection, whatever store it is."""
STORE_OPTIONS: Final[Mapping[str, frozenset[str]]] = {
    "s3": frozenset(
        {
            "checksum_algorithm",
            "disable_tagging",
            "endpoint",
            "region",
            "request_payer",
            "role_arn",
            "server_side_encryption",
            "skip_signature",
            "sse_bucket_key_enabled",
            "sse_kms_key_id",
            "endpoint_url_sts",
            "unsigned_payload",
            "virtual_hosted_style_request",
        }
    ),
    "gs": frozenset({"base_url"}),
    "az": frozenset(
        {"account_name", "authority_host", "client_id", "disable_tagging", "endpoint", "skip_signature", "tenant_id", "use_fabric_endpoint"}
    ),
}
"""What is no secret, by the URL's scheme."""
_ADDRESSES: Final = ("endpoint", "base_url", "endpoint_url_sts", "authority_host", "proxy_url")
_SECRET: Final = re.compile(r"key(_id)?$|secret|token|credential|password|^service_account")


def scheme_of(url: str) -> str:
    """`s3`, `gs` or `az`."""
    return url.partition("://")[0]


def problems(*, url: str, secret: str, options: Mapping[str, StoreOption]) -> Iterator[str]:
    """What is wrong with the settings, each with its key, the value, what may stand there, and the remedy."""
    if not url:
        for key, given in (("secretName", secret), ("options", ", ".join(options))):
            if given:
                remedy = "say where outputs go, as s3://bucket/prefix, or take it out"
                yield f"outputStore.{key}: {quoted(given)} without outputStore.url; {remedy}"
        return
    if len(url) > MAX_STORE_URL:
        yield f"outputStore.url: {len(url)} characters, at most {MAX_STORE_URL} are kept; use a shorter prefix"
    elif not _URL.fullmatch(url):
        yield (
            f"outputStore.url: {quoted(url)} is no bucket and prefix of one of {', '.join(_SCHEMES)}; write it as s3://bucket/prefix, "
            "without user, query or a slash at its end (keys go into the Secret of outputStore.secretName, regions and endpoints into "
            "outputStore.options)"
        )
    else:
        yield from _option_problems(STORE_OPTIONS[scheme_of(url)] | CLIENT_OPTIONS, options)


def _option_problems(known: frozenset[str], options: Mapping[str, StoreOption]) -> Iterator[str]:
    for name in options:
        if name in known:
            continue
        if _SECRET.search(name):
            yield f"outputStore.options: {quoted(name)} is a secret; make it a key of the Secret that outputStore.secretName names"
        else:
            yield f"outputStore.options: {quoted(name)} is none of {listed(known)}{did_you_mean(name, known)}"
    for name in _ADDRESSES:
        yield from _address_problems(name, as_text(options.get(name, "")), http=as_text(options.get("allow_http", "")) == "true")


def _address_problems(name: str, address: str, *, http: bool) -> Iterator[str]:
    if "@" in address:  # the value is not shown
        remedy = "make it a key of the Secret that outputStore.secretName names"
        yield f"outputStore.options.{name}: the address has a user or a password in front of its '@', for all to read; {remedy}"
    elif address.lower().startswith("http://") and not http and name != "proxy_url":  # through a proxy it stays encrypted
        yield (
            f"outputStore.options.{name}: {quoted(address)} is not encrypted; use https, or allow it with "
            "outputStore.options.allow_http: true"
        )


def as_text(value: StoreOption) -> str:
    """An option's value as the store's client reads it."""
    return value if isinstance(value, str) else str(value).lower()


class Disbelieved(Struct, frozen=True):
    """The object that a report names is not taken for its output: for this reason, and what to do."""

    why: str


def accepted(told: ObjectReport, *, url: str, max_bytes: int, task: ObjectMeta, attempt: int) -> OutputRef | Disbelieved:
    """Where the output lies, if it is the one place that this attempt has in the store of the installation.

    The report is hostile input: whatever follows the reference reads what stands in it with rights of its own.
    """
    key = output_key(namespace=task.namespace, name=task.name, uid=task.uid, attempt=attempt)
    said = "the runner said that the output"
    if not url:
        return Disbelieved(f"{said} lies at {_shown(told.url)}, and there is no store (outputStore.url); set it, and run the task again")
    if told.url != (place := object_url(url, key)):
        return Disbelieved(
            f"{said} lies at {_shown(told.url)}, and no place but {_shown(place)} is this attempt's (outputStore.url); where that was "
            "changed while the pod ran, run the task again"
        )
    if told.size > max_bytes:
        return Disbelieved(
            f"{said} has {told.size} bytes, and at most {max_bytes} are taken from {_shown(url)} (outputStore.maxBytes); raise it, or let "
            "`output` name a shorter text, and run the task again"
        )
    return OutputRef(kind="ObjectStore", name=url, key=key, size=told.size, sha256=told.sha256)


def _shown(url: str) -> str:
    return shorten(repr(url), _SHOWN_URL)
