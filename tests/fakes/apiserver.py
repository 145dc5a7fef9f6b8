"""An API server in this process, for unit tests of the controller: good enough for kopf and for our own client.

    async with FakeApiServer() as server:
        server.put("agenttasks", {"metadata": {"name": "a"}, "spec": {...}})
        server.kubelet.auto_run(lambda pod: PodRun(message="..."))
        server.fail_next("PATCH", "/status$", 409)
        ...
        assert server.writes == [("POST", "/api/v1/namespaces/default/pods"), ...]

It knows no schemas, defaults, admission, rights or server-side apply. What it does do is held equal to a real server by
`tests/contract/test_kube_client.py`.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Self

import msgspec
from aiohttp import web

from tests.fakes.apiserver_faults import REASONS, Fault, Faults
from tests.fakes.apiserver_kubelet import FakeKubelet, PodRun
from tests.fakes.apiserver_refusal import Refusal
from tests.fakes.apiserver_resources import BY_PLURAL, Resource, Target, discovery, resolve
from tests.fakes.apiserver_selectors import Object, selects
from tests.fakes.apiserver_store import Store
from tests.fakes.apiserver_watch import Watches, as_accepted

__all__ = ["FakeApiServer", "FakeKubelet", "PodRun", "Refusal"]
_encode = msgspec.json.encode
_decode = msgspec.json.decode


class FakeApiServer:
    """Listens on a free port of the loopback interface while it is entered.

    `graceful`: deleted pods that have a node are only marked, as in a cluster; `bookmark_seconds`: how often watches get
    a bookmark by themselves (0: only when `bookmark()` is called); `token`: if set, requests without it are answered 401.
    """

    def __init__(self, *, graceful: bool = False, bookmark_seconds: float = 0.0, token: str | None = None) -> None:
        self.store = Store()
        self.kubelet = FakeKubelet(self.store)
        self.watches = Watches(self.store, bookmark_seconds)
        self.graceful = graceful
        self.token = token
        self.requests: list[tuple[str, str]] = []
        """Method and path with query of every request, in order of arrival."""
        self.writes: list[tuple[str, str]] = []
        """Method and path of every POST, PATCH, PUT and DELETE."""
        self.url = ""
        self._faults = Faults()
        self.put("namespaces", {"metadata": {"name": "default"}}, namespace=None)

    async def __aenter__(self) -> Self:
        application = web.Application(client_max_size=8 << 20)
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = "http://{}:{}".format(*self._runner.addresses[0])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kubelet.stop()
        self.watches.drop()
        await self._runner.cleanup()

    # What a test does to the cluster, past the request log.

    def put(self, plural: str, body: Object, *, namespace: str | None = "default") -> Object:
        """Create an object, with its status if it has one."""
        resource = BY_PLURAL[plural]
        made = self.store.create(Target(resource=resource, namespace=namespace if resource.namespaced else None), body)
        return (
            self.patch(plural, made["metadata"]["name"], {"status": body["status"]}, namespace=namespace, subresource="status")
            if "status" in body and resource.status
            else made
        )

    def get(self, plural: str, name: str, *, namespace: str | None = "default") -> Object | None:
        """An object, or None."""
        return self.store.find(plural, namespace if BY_PLURAL[plural].namespaced else None, name)

    def objects(self, plural: str) -> list[Object]:
        """All objects of a kind."""
        return self.store.select(Target(resource=BY_PLURAL[plural]), lambda _: True)

    def patch(self, plural: str, name: str, patch: Object, *, namespace: str | None = "default", subresource: str | None = None) -> Object:
        """Merge-patch an object, or its status."""
        return self.store.patch(_target(BY_PLURAL[plural], namespace, name, subresource), patch)

    def remove(self, plural: str, name: str, *, namespace: str | None = "default", graceful: bool | None = None) -> None:
        """Delete an object and what it owns."""
        self.store.delete(
            _target(BY_PLURAL[plural], namespace, name), {}, graceful=self._graceful(plural) if graceful is None else graceful
        )

    def compact(self) -> None:
        """Forget the past: watches and pages that start before now are answered 410."""
        self.store.compact()

    def bookmark(self) -> None:
        """Send every watch a bookmark."""
        self.watches.bookmark()

    def drop_watches(self, *, rest: bytes = b"", clean: bool = False) -> None:
        """Break every watch: after `rest` (half a line, say), with a reset or as a server ends it."""
        self.watches.drop(rest=rest, clean=clean)

    def stall_watches(self) -> None:
        """Open watches stay open and say nothing any more, as behind a load balancer that forgot them; new ones work."""
        self.watches.stall()

    def push(self, plural: str, line: bytes) -> None:
        """Send a line of your own to every watch of a kind."""
        self.watches.push(plural, line)

    def fail_next(
        self,
        method: str,
        path_regex: str,
        status: int,
        *,
        times: int = 1,
        reason: str | None = None,
        message: str = "planned by the test",
        retry_after: float | None = None,
        after_commit: bool = False,
        delay: float = 0.0,
    ) -> None:
        """Let the next requests go wrong; a status of 0 breaks the connection, 200 with a `delay` is only late.

        `path_regex` is searched in path and query (`watch=true` tells a watch), `method` may be `*`. `after_commit`: the
        write is applied and its answer lost.
        """
        self._faults.plan(
            Fault(
                method=method,
                path=re.compile(path_regex),
                status=status,
                times=times,
                reason=reason or REASONS.get(status, "Unknown"),
                message=message,
                retry_after=retry_after,
                after_commit=after_commit,
                delay=delay,
            )
        )

    def heal(self) -> None:
        """Forget the faults that are still planned."""
        self._faults.clear()

    async def until(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        """Wait until something holds.

        Raises:
            TimeoutError: it does not.
        """
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - conditions are any code of a test
                await asyncio.sleep(0.005)

    # What a request does.

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs))
        if request.method in ("POST", "PATCH", "PUT", "DELETE"):
            self.writes.append((request.method, request.path))
        body = await request.read()
        fault = self._faults.take(request.method, request.path_qs)
        try:
            if fault is not None and fault.delay:
                await asyncio.sleep(fault.delay)
            if fault is not None and fault.status != 200:
                if fault.after_commit:
                    await self._serve(request, body)
                if fault.status == 0:
                    if request.transport is not None:
                        request.transport.abort()
                    return web.Response()
                raise Refusal(fault.status, fault.reason, fault.message)
            return await self._serve(request, body)
        except Refusal as refusal:
            headers = {"Retry-After": f"{fault.retry_after:g}"} if fault is not None and fault.retry_after is not None else {}
            return _json(refusal.status, refusal.code, headers)

    async def _serve(self, request: web.Request, body: bytes) -> web.StreamResponse:
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            raise Refusal(401, "Unauthorized", "Unauthorized")
        document = discovery(request.path)
        if document is not None:
            return _json(document)
        target = resolve(request.path)
        if target is None:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        accept = request.headers.get("Accept", "")
        match request.method, target.name:
            case "GET", None:
                return await self._read(request, target)
            case "GET", _:
                return _json(as_accepted(self.store.get(target), accept))
            case "POST", None:
                return _json(self.store.create(target, _parse(body)), 201)
            case "PATCH", str():
                if request.content_type != "application/merge-patch+json":
                    raise Refusal(415, "UnsupportedMediaType", f"the fake knows merge patches only, not {request.content_type}")
                return _json(self.store.patch(target, _parse(body)))
            case "DELETE", str():
                gone = self.store.delete(target, _parse(body) if body else {}, graceful=self._graceful(target.resource.plural))
                return _json(gone)
        raise Refusal(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")

    async def _read(self, request: web.Request, target: Target) -> web.StreamResponse:
        if request.query.get("watch") in ("true", "1"):
            return await self.watches.serve(request, target)
        wanted = selects(request.query.get("labelSelector", ""), request.query.get("fieldSelector", ""))
        token = request.query.get("continue", "")
        version, items, following, remaining = self.store.page(
            [] if token else self.store.select(target, wanted), int(request.query.get("limit", 0)), token
        )
        accept = request.headers.get("Accept", "")
        partial = "as=PartialObjectMetadataList" in accept
        meta: Object = {"resourceVersion": str(version)}
        if following:
            meta |= {"continue": following, "remainingItemCount": remaining}
        return _json(
            {
                "kind": "PartialObjectMetadataList" if partial else f"{target.resource.kind}List",
                "apiVersion": "meta.k8s.io/v1" if partial else target.resource.api_version,
                "metadata": meta,
                "items": [as_accepted(item, accept) for item in items],
            }
        )

    def _graceful(self, plural: str) -> bool:
        return self.graceful and plural == "pods"


def _target(resource: Resource, namespace: str | None, name: str, subresource: str | None = None) -> Target:
    return Target(resource=resource, namespace=namespace if resource.namespaced else None, name=name, subresource=subresource)


def _parse(body: bytes) -> Object:
    try:
        found = _decode(body)
    except msgspec.DecodeError as error:
        raise Refusal(400, "BadRequest", f"the body is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise Refusal(400, "BadRequest", "the body is no object")
    return found


def _json(found: Object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=_encode(found), status=status, headers=headers, content_type="application/json")
