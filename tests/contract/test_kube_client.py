"""One suite for our client on the fake API server and on a real one: what the fake says, the real one says too."""

import asyncio
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct
from tests.fakes.apiserver import FakeApiServer

from agenttask.controller.credentials import Credentials
from agenttask.controller.kube import KubeClient
from agenttask.controller.kube_errors import AlreadyExists, Conflict, Gone, Invalid, KubeError, NotFound, from_answer
from agenttask.controller.kube_paths import configmap_path, configmaps_path, task_path, tasks_path
from agenttask.controller.login import Connection, find_credentials

CRDS = Path(__file__).parents[2] / "crds"
Body = dict[str, Any]


class Event(Struct):
    """One line of a watch."""

    type: str
    object: msgspec.Raw


class Place(Struct, frozen=True):
    """A client and the namespace that is its own."""

    client: KubeClient
    namespace: str
    fake: FakeApiServer | None = None

    @property
    def maps(self) -> str:
        return configmaps_path(self.namespace)

    async def make(self, name: str, **labels: str) -> Body:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {"x": "1"}}
        return read(await self.client.create(self.maps, msgspec.json.encode(body)))

    async def make_task(self, name: str) -> Body:
        steps = [{"name": "say", "exec": {"command": ["true"]}}]
        body = {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": name}, "spec": {"steps": steps}}
        return read(await self.client.create(tasks_path(self.namespace), msgspec.json.encode(body)))

    async def version(self) -> str:
        """Of the collection, now."""
        pages = [read(page) async for page in self.client.list(self.maps)]
        return str(pages[0]["metadata"]["resourceVersion"])


def read(body: bytes) -> Body:
    found = msgspec.json.decode(body)
    assert isinstance(found, dict)
    return found


@asynccontextmanager
async def opened(credentials: Credentials, namespace: str, fake: FakeApiServer | None = None) -> AsyncIterator[Place]:
    async with Connection(credentials) as connection:
        yield Place(KubeClient(connection.session, connection.server), namespace, fake)


@pytest.fixture(scope="session")
def installed_crds(cluster_environment: dict[str, str]) -> dict[str, str]:
    """The environment of a cluster that knows our kinds."""
    subprocess.run(
        ["kubectl", "apply", "--server-side", "--force-conflicts", "-f", CRDS], env=cluster_environment, check=True, capture_output=True
    )
    for plural in ("agenttasks", "agentmodels", "agenttaskrecords"):
        wait = ["kubectl", "wait", "--for=condition=Established", f"crd/{plural}.agenttask.dev", "--timeout=120s"]
        subprocess.run(wait, env=cluster_environment, check=True, capture_output=True)
    return cluster_environment


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.cluster)])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    if request.param == "real":
        environ, namespace = request.getfixturevalue("installed_crds"), request.getfixturevalue("namespace")
        async with opened(await find_credentials(environ), namespace) as found:
            yield found
    else:
        async with FakeApiServer(bookmark_seconds=0.2) as server, opened(Credentials(server=server.url), "default", server) as found:
            yield found


async def events(place: Place, since: str, **options: Any) -> AsyncGenerator[tuple[str, Body], None]:
    """The events of the ConfigMaps after a version; bookmarks too, names of other objects left out."""
    async with aclosing(place.client.watch(place.maps, resource_version=since, **options)) as lines:
        async for line in lines:
            event = read(line)
            if event["object"]["metadata"].get("name") != "kube-root-ca.crt":
                yield event["type"], event["object"]


async def take(source: AsyncGenerator[tuple[str, Body], None], count: int) -> list[tuple[str, str]]:
    """Type and name of the next events, bookmarks aside."""
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(20), aclosing(source):
        async for kind, item in source:
            if kind != "BOOKMARK":
                found.append((kind, item["metadata"].get("name", "")))
            if len(found) == count:
                break
    return found


async def test_what_is_created_has_identity_and_can_be_read(place: Place) -> None:
    made = await place.make("a")

    meta = made["metadata"]
    assert (meta["name"], meta["namespace"], made["data"]) == ("a", place.namespace, {"x": "1"})
    assert meta["uid"]
    assert meta["resourceVersion"].isdigit()
    assert meta["creationTimestamp"].endswith("Z")
    assert read(await place.client.get(configmap_path(place.namespace, "a"))) == made | {"apiVersion": "v1", "kind": "ConfigMap"}


async def test_a_name_is_taken_once(place: Place) -> None:
    await place.make("a")

    with pytest.raises(AlreadyExists) as raised:
        await place.make("a")

    assert (raised.value.status, raised.value.reason) == (409, "AlreadyExists")
    assert '"a" already exists' in raised.value.message


async def test_a_name_that_is_none_is_invalid(place: Place) -> None:
    with pytest.raises(Invalid) as raised:
        await place.make("Not_A_Name")

    assert raised.value.status == 422


async def test_a_body_that_is_no_json_is_invalid(place: Place) -> None:
    with pytest.raises(Invalid) as raised:
        await place.client.create(place.maps, b"{no")

    assert raised.value.status == 400


async def test_what_is_not_there_is_not_found(place: Place) -> None:
    path = configmap_path(place.namespace, "absent")

    with pytest.raises(NotFound) as raised:
        await place.client.get(path)
    with pytest.raises(NotFound):
        await place.client.delete(path, uid="any")
    with pytest.raises(NotFound):
        await place.client.patch_status(task_path(place.namespace, "absent"), b'{"status": {}}')
    with pytest.raises(NotFound):
        await place.client.get(f"/api/v1/namespaces/{place.namespace}/strangethings")

    assert raised.value.reason == "NotFound"


async def test_a_status_is_patched_alone_and_only_from_its_version(place: Place) -> None:
    made = await place.make_task("a")
    path = task_path(place.namespace, "a")
    version = made["metadata"]["resourceVersion"]
    patch = {"metadata": {"resourceVersion": version}, "spec": {"output": "x"}, "status": {"phase": "Queued", "message": "m"}}

    patched = read(await place.client.patch_status(path, msgspec.json.encode(patch)))
    with pytest.raises(Conflict) as raised:
        await place.client.patch_status(path, msgspec.json.encode(patch))

    assert (patched["status"]["phase"], patched["status"]["message"]) == ("Queued", "m")
    assert (patched["spec"], patched["metadata"]["generation"]) == (made["spec"], 1)
    assert int(patched["metadata"]["resourceVersion"]) > int(version)
    assert (raised.value.status, raised.value.reason) == (409, "Conflict")


async def test_a_null_removes_a_field_of_the_status(place: Place) -> None:
    await place.make_task("a")
    path = task_path(place.namespace, "a")
    await place.client.patch_status(path, b'{"status": {"phase": "Queued", "message": "m"}}')

    patched = read(await place.client.patch_status(path, b'{"status": {"message": null}}'))

    assert patched["status"] == {"phase": "Queued"}


async def test_a_patch_that_changes_nothing_is_no_write(place: Place) -> None:
    await place.make_task("a")
    path = task_path(place.namespace, "a")
    first = await place.client.patch_status(path, b'{"status": {"phase": "Queued"}}')

    again = await place.client.patch_status(path, b'{"status": {"phase": "Queued"}}')

    assert read(again)["metadata"]["resourceVersion"] == read(first)["metadata"]["resourceVersion"]


async def test_a_final_phase_is_final(place: Place) -> None:
    await place.make_task("a")
    path = task_path(place.namespace, "a")
    await place.client.patch_status(path, b'{"status": {"phase": "Succeeded"}}')

    with pytest.raises(Invalid) as raised:
        await place.client.patch_status(path, b'{"status": {"phase": "Running"}}')

    assert raised.value.status == 422


async def test_only_the_object_with_the_uid_is_deleted(place: Place) -> None:
    made = await place.make("a")
    path = configmap_path(place.namespace, "a")

    with pytest.raises(Conflict):
        await place.client.delete(path, uid="00000000-0000-0000-0000-000000000000")
    await place.client.delete(path, uid=made["metadata"]["uid"], grace_seconds=0)

    with pytest.raises(NotFound):
        await place.client.get(path)


async def test_a_list_comes_in_pages_of_one_snapshot(place: Place) -> None:
    for number in range(5):
        await place.make(f"m{number}", part="mine")

    names, versions, sizes = [], set(), []
    async for page in place.client.list(place.maps, label_selector="part=mine", limit=2):
        found = read(page)
        if not sizes:
            await place.make("later", part="mine")
        names += [item["metadata"]["name"] for item in found["items"]]
        versions.add(found["metadata"]["resourceVersion"])
        sizes.append(len(found["items"]))

    assert (names, sizes, len(versions)) == ([f"m{number}" for number in range(5)], [2, 2, 1], 1)


async def test_selectors_choose(place: Place) -> None:
    await place.make("a", kind="x")
    await place.make("b", kind="y")
    await place.make_task("open")
    await place.make_task("final")
    await place.client.patch_status(task_path(place.namespace, "final"), b'{"status": {"phase": "Failed"}}')

    async def names(path: str, **options: Any) -> list[str]:
        return [item["metadata"]["name"] async for page in place.client.list(path, **options) for item in read(page)["items"] or ()]

    assert await names(place.maps, label_selector="kind=x") == ["a"]
    assert await names(place.maps, field_selector="metadata.name=b") == ["b"]
    assert await names(tasks_path(place.namespace), field_selector="status.phase!=Succeeded,status.phase!=Failed") == ["open"]


async def test_metadata_alone_leaves_the_contents_out(place: Place) -> None:
    version = await place.version()
    await place.make("a", part="mine")

    (page,) = [read(page) async for page in place.client.list(place.maps, label_selector="part=mine", metadata_only=True)]
    async with asyncio.timeout(20), aclosing(events(place, version, metadata_only=True)) as found:
        kind, item = await anext(aiter(found))

    (listed,) = page["items"]
    assert (page["kind"], item["kind"]) == ("PartialObjectMetadataList", "PartialObjectMetadata")
    assert (kind, listed["metadata"]["name"], item["metadata"]["name"]) == ("ADDED", "a", "a")
    assert not {"data"} & {*listed, *item}


async def test_a_watch_tells_what_happened_after_its_version(place: Place) -> None:
    await place.make("before")
    version = await place.version()
    made = await place.make("a")
    await place.client.delete(configmap_path(place.namespace, "a"), uid=made["metadata"]["uid"])
    await place.make("b")

    assert await take(events(place, version), 3) == [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "b")]
    assert await take(events(place, made["metadata"]["resourceVersion"]), 2) == [("DELETED", "a"), ("ADDED", "b")]


async def test_a_task_that_becomes_final_leaves_a_watch_of_the_unfinished(place: Place) -> None:
    made = await place.make_task("a")
    path, unfinished = tasks_path(place.namespace), "status.phase!=Succeeded,status.phase!=Failed"
    final = read(await place.client.patch_status(task_path(place.namespace, "a"), b'{"status": {"phase": "Succeeded"}}'))

    lines = place.client.watch(path, resource_version=made["metadata"]["resourceVersion"], field_selector=unfinished)
    async with asyncio.timeout(20), aclosing(lines) as found:
        event = read(await anext(aiter(found)))

    assert (event["type"], event["object"].get("status", {}).get("phase")) == ("DELETED", None)
    assert event["object"]["metadata"]["resourceVersion"] == final["metadata"]["resourceVersion"]


async def test_a_watch_ends_after_its_time_with_a_bookmark_to_go_on_from(place: Place) -> None:
    version = await place.version()
    await place.make("a")
    # The real one sends the last bookmark two seconds before the end, and none at all on a watch of 10 s (Kubernetes 1.35).
    seen = [(kind, item) async for kind, item in events(place, version, timeout_seconds=20 if place.fake is None else 2)]

    kind, bookmark = seen[-1]
    assert (seen[0][0], kind) == ("ADDED", "BOOKMARK")
    assert int(bookmark["metadata"]["resourceVersion"]) >= int(seen[0][1]["metadata"]["resourceVersion"])
    await place.make("b")
    assert await take(events(place, bookmark["metadata"]["resourceVersion"]), 1) == [("ADDED", "b")]


async def test_a_version_that_is_compacted_is_gone(place: Place) -> None:
    """As an error of the request or as the first event: both are Gone.

    Of our kind, not of ConfigMaps: a server that lists these before anything was written serves them from version 1 on for ever,
    while its memory of a kind begins with the kind's definition, and is always younger than version 1.
    """
    if place.fake is not None:
        place.fake.compact()

    async def watch() -> None:
        async with asyncio.timeout(20), aclosing(place.client.watch(tasks_path(place.namespace), resource_version="1")) as lines:
            async for line in lines:
                event = msgspec.json.decode(line, type=Event)
                if event.type == "ERROR":
                    raise from_answer(0, event.object)

    with pytest.raises(Gone):
        await watch()


async def test_a_page_of_a_forgotten_snapshot_is_gone(place: Place) -> None:
    with pytest.raises(KubeError) as raised:
        await place.client._send("GET", place.maps, query={"limit": "1", "continue": "bm9uc2Vuc2U"})

    assert raised.value.status in (400, 410)
