"""`fetch`: one HTTP request to a host that the installation allows. `text` is the body, `json` its value where it is JSON.

With `path` the body goes to a file as it comes, and `text` is its name. Redirects are followed here and not by the client:
each is checked as the first URL was, headers stay with their origin, and nothing goes from https back to http.
"""

import contextlib
import sys
import time
from collections.abc import Callable

import aiohttp
from yarl import URL

from agenttask.api.constants import MAX_STEP_TEXT_BYTES
from agenttask.api.errors import AgentTaskError, InvalidTask, RateLimited, ServiceUnavailable, StepFailed
from agenttask.api.report import shorten
from agenttask.domain.retry_after import retry_after
from agenttask.plugin.step import StepContext, StepOutput
from agenttask_steps.addresses import Lookup, checked_addresses, system_lookup
from agenttask_steps.body import text_of, value_of
from agenttask_steps.exchange import Asked, chunks, exchange
from agenttask_steps.exclusive import held
from agenttask_steps.handing_on import name_of
from agenttask_steps.hosts import AllowedHosts, Target, target_of
from agenttask_steps.mask import Mask
from agenttask_steps.rendered import RenderedFetch
from agenttask_steps.request_headers import request_headers

MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_KEEP_METHOD = (307, 308)
_SAID_CHARACTERS = 200
_SAID_BYTES = 4096


class FetchStep:
    """Asks once; `lookup` resolves names, `now` is Unix seconds."""

    schema = RenderedFetch

    def __init__(self, lookup: Lookup = system_lookup, now: Callable[[], float] = time.time) -> None:
        self._lookup = lookup
        self._now = now

    async def run(self, config: RenderedFetch, context: StepContext) -> StepOutput:
        """The body, of the last of the redirects."""
        target = target_of(config.url)
        asked = Asked(method=config.method, headers=request_headers(config, context.secrets), body=_body(config))
        if not config.path:
            return await self._fetch(target, asked, config, context)
        async with held(context.locks, {context.files.writable(config.path): config.path}, context.log):
            return await self._fetch(target, asked, config, context)

    async def _fetch(self, target: Target, asked: Asked, config: RenderedFetch, context: StepContext) -> StepOutput:
        hosts = AllowedHosts(context.policy.hosts)
        for _ in range(MAX_REDIRECTS + 1):
            hosts.check(target, "fetch.url")
            addresses = await checked_addresses(target, loopback=hosts.names_itself(target), lookup=self._lookup)
            async with exchange(context.session(), target, addresses, asked) as response:
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or location is None:
                    return await self._answer(response, target, config, context)
                following = _following(target, location)
                asked = _redirected(asked, response.status, same=following.origin == target.origin)
                context.log(f"{target.authority} answered {response.status}; following it to {following.authority}")
                target = following
        raise StepFailed(f"more than {MAX_REDIRECTS} redirects; the last one leads to {target.authority!r}")

    async def _answer(self, response: aiohttp.ClientResponse, target: Target, config: RenderedFetch, context: StepContext) -> StepOutput:
        if not 200 <= response.status < 300:
            raise await self._failure(response, target, Mask(context.secrets.values()))
        if config.path:
            async with contextlib.aclosing(chunks(response, target, config.max_bytes, "raise `maxBytes`")) as body:
                written = await context.files.write_stream(config.path, body)
            return StepOutput(text=name_of(written, context.workspace))
        limit = min(config.max_bytes, MAX_STEP_TEXT_BYTES)
        remedy = "raise `maxBytes`" if limit < MAX_STEP_TEXT_BYTES else "that is the most a step may hand on; give `path`"
        raw = bytearray()
        async with contextlib.aclosing(chunks(response, target, limit, remedy)) as body:
            async for chunk in body:
                raw += chunk
        text = text_of(bytes(raw), response.charset)
        return StepOutput(text=text, json=value_of(text, response.content_type))

    async def _failure(self, response: aiohttp.ClientResponse, target: Target, mask: Mask) -> AgentTaskError:
        """The error of a status, with the beginning of what the server says; covered before it is cut."""
        raw = bytearray()
        with contextlib.suppress(ServiceUnavailable, StepFailed):  # the status says enough
            async with contextlib.aclosing(chunks(response, target, sys.maxsize, "")) as body:
                async for chunk in body:
                    raw += chunk
                    if len(raw) >= _SAID_BYTES:
                        break
        said = shorten(" ".join(mask.cover(raw[:_SAID_BYTES].decode("utf-8", "replace")).split()), _SAID_CHARACTERS)
        what = f"{target.scheme}://{target.authority} answered {response.status}{f': {said}' if said else ''}"
        wish = retry_after(response.headers.get("Retry-After"), self._now())
        if response.status == 429:
            return RateLimited(what, retry_after=wish)
        if response.status == 408 or response.status >= 500:
            return ServiceUnavailable(what, retry_after=wish)
        return StepFailed(what)


def _body(config: RenderedFetch) -> bytes | None:
    if not config.body:
        return None
    if config.method != "POST":
        raise InvalidTask("fetch.body", f"goes with `method: POST`, not with {config.method}")
    try:
        return config.body.encode()
    except UnicodeEncodeError as error:
        raise StepFailed(f"the body cannot be sent as UTF-8: half of a surrogate pair at character {error.start}") from error


def _following(target: Target, location: str) -> Target:
    """Where a redirect leads.

    Raises:
        StepFailed: nowhere that can be read, or from https to http.
    """
    try:
        following = target_of(str(target.url.join(URL(location))))
    except (ValueError, UnicodeError, StepFailed) as error:
        raise StepFailed(f"{target.authority!r} redirects to what cannot be followed: {error}") from error
    if target.scheme == "https" and following.scheme == "http":
        raise StepFailed(f"{target.authority!r} redirects from https to http, to {following.authority!r}; that is not followed")
    return following


def _redirected(asked: Asked, status: int, *, same: bool) -> Asked:
    """The next request: headers are for the same origin only, and so is a body.

    Raises:
        StepFailed: the server wants the body to be sent to another one.
    """
    if status in _KEEP_METHOD:
        if asked.body is not None and not same:
            raise StepFailed(f"the server redirects the request with its body to another host ({status}); name that host in `url`")
        return Asked(method=asked.method, headers=asked.headers if same else {}, body=asked.body)
    without_body = {name: value for name, value in asked.headers.items() if name.lower() != "content-type"}
    return Asked(method="GET", headers=without_body if same else {}, body=None)
