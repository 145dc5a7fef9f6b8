"""One suite for the records on the fake API server and on a real one: what an attempt stores, and who may not any more."""

import secrets
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct
from tests.fakes.apiserver import FakeApiServer

from agenttask.api.gateway import MAX_RECORD_BYTES, TokenClaims
from agenttask.api.meta import ObjectMeta
from agenttask.api.record import AgentTaskRecord
from agenttask.api.task import OutputRef
from agenttask.controller.credentials import Credentials
from agenttask.controller.gateway.record_body import record_name
from agenttask.controller.gateway.records import Records
from agenttask.controller.gateway.refusals import Fenced, NotStored, TooLarge, Unavailable
from agenttask.controller.kube import KubeClient
from agenttask.controller.kube_paths import record_path, tasks_path
from agenttask.controller.login import Connection, find_credentials
from agenttask.domain.observation import SeenTask, StoredOutput

CRDS = Path(__file__).parents[2] / "crds"


class Place(Struct, frozen=True):
    """A client, the namespace that is its own, and a task there."""

    client: KubeClient
    namespace: str
    name: str
    uid: str

    def attempt(self, number: int) -> TokenClaims:
        return TokenClaims(namespace=self.namespace, task=self.name, uid=self.uid, attempt=number, expires=0)

    @property
    def task(self) -> SeenTask:
        return SeenTask(metadata=ObjectMeta(name=self.name, namespace=self.namespace, uid=self.uid), spec=None)

    @property
    def path(self) -> str:
        return record_path(self.namespace, record_name(self.name, self.uid))

    @property
    def ref(self) -> OutputRef:
        return OutputRef(kind="AgentTaskRecord", name=record_name(self.name, self.uid), key="output")

    async def stored(self) -> AgentTaskRecord:
        return msgspec.json.decode(await self.client.get(self.path), type=AgentTaskRecord)


@pytest.fixture(scope="session")
def installed_crds(cluster_environment: dict[str, str]) -> dict[str, str]:
    """The environment of a cluster that knows our kinds."""
    environment = cluster_environment
    for crd in ("agenttasks", "agenttaskrecords"):
        apply = ["kubectl", "apply", "--server-side", "--force-conflicts", "-f", CRDS / f"{crd}.yaml"]
        subprocess.run(apply, env=environment, check=True, capture_output=True)
        wait = ["kubectl", "wait", "--for=condition=Established", f"crd/{crd}.agenttask.dev", "--timeout=120s"]
        subprocess.run(wait, env=environment, check=True, capture_output=True)
    return environment


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.cluster)])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    if request.param == "real":
        environ, namespace = request.getfixturevalue("installed_crds"), request.getfixturevalue("namespace")
        async with Connection(await find_credentials(environ)) as connection:
            yield await _place(KubeClient(connection.session, connection.server), namespace)
    else:
        async with FakeApiServer() as server, Connection(Credentials(server=server.url)) as connection:
            yield await _place(KubeClient(connection.session, connection.server), "default")


async def _place(client: KubeClient, namespace: str) -> Place:
    name = f"review.of.{secrets.token_hex(2)}"
    body: dict[str, Any] = {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": name}}
    body["spec"] = {"steps": [{"name": "say", "exec": {"command": ["true"]}}]}
    made = msgspec.json.decode(await client.create(tasks_path(namespace), msgspec.json.encode(body)))
    return Place(client, namespace, name, made["metadata"]["uid"])


async def test_a_checkpoint_is_handed_on_byte_by_byte(place: Place) -> None:
    raw = bytes(range(256)) * 10
    await Records(place.client).put_checkpoint(place.attempt(1), raw)
    assert await Records(place.client).checkpoint(place.attempt(2)) == raw


async def test_the_record_is_the_task_s_and_goes_with_it(place: Place) -> None:
    await Records(place.client).put_output(place.attempt(1), "done")
    kept = await place.stored()
    (owner,) = kept.metadata.owner_references
    assert (owner.kind, owner.name, owner.uid, owner.controller) == ("AgentTask", place.name, place.uid, True)
    assert (kept.task, kept.task_uid, kept.attempt, kept.output) == (place.name, place.uid, 1, "done")


async def test_nothing_is_stored_of_a_task_that_never_asked(place: Place) -> None:
    records = Records(place.client)
    with pytest.raises(NotStored):
        await records.checkpoint(place.attempt(2))
    assert await records.output(place.task, 1) is None


async def test_a_later_flush_takes_the_place_of_the_one_before(place: Place) -> None:
    records = Records(place.client)
    for raw in (b"one", b"two", b"three"):
        await records.put_checkpoint(place.attempt(1), raw)
    await records.put_output(place.attempt(1), "out")
    assert await records.checkpoint(place.attempt(2)) == b"three"
    assert await records.output(place.task, 1) == StoredOutput(ref=place.ref, text="out")


async def test_what_is_stored_already_is_not_written_again(place: Place) -> None:
    records = Records(place.client)
    await records.put_checkpoint(place.attempt(1), b"same")
    version = (await place.stored()).metadata.resource_version
    await records.put_checkpoint(place.attempt(1), b"same")
    await Records(place.client).put_checkpoint(place.attempt(1), b"same")  # another replica, which knows nothing
    assert (await place.stored()).metadata.resource_version == version


async def test_two_replicas_write_one_after_the_other(place: Place) -> None:
    mine, theirs = Records(place.client), Records(place.client)
    await mine.put_checkpoint(place.attempt(1), b"mine")
    await theirs.put_output(place.attempt(1), "theirs")
    await mine.put_checkpoint(place.attempt(1), b"mine again")
    kept = await place.stored()
    assert (kept.output, await mine.checkpoint(place.attempt(2))) == ("theirs", b"mine again")


async def test_an_attempt_that_is_over_can_do_nothing_whatever_the_caches_know(place: Place) -> None:
    stale = Records(place.client)
    await stale.put_checkpoint(place.attempt(1), b"first")
    await Records(place.client).put_checkpoint(place.attempt(2), b"second")
    for call in (
        stale.put_checkpoint(place.attempt(1), b"late"),
        stale.put_output(place.attempt(1), "late"),
        stale.checkpoint(place.attempt(1)),
    ):
        with pytest.raises(Fenced):
            await call
    kept = await place.stored()
    assert (kept.attempt, kept.output) == (2, None)


async def test_an_output_counts_for_its_own_attempt_only(place: Place) -> None:
    records = Records(place.client)
    await records.put_output(place.attempt(1), "of the first")
    await records.put_checkpoint(place.attempt(2), b"second")
    assert (await place.stored()).output is None
    assert await records.output(place.task, 2) is None
    await records.put_output(place.attempt(2), "of the second")
    found = await Records(place.client).output(place.task, 2)
    assert found is not None
    assert found.text == "of the second"


@pytest.mark.parametrize(
    "text", ["", "äöü€𝄞\x00\x1f\u2028<&>", "x" * 16384], ids=["empty", "all kinds of characters", "largest of a status"]
)
async def test_an_output_short_enough_is_at_hand_for_the_status(place: Place, text: str) -> None:
    await Records(place.client).put_output(place.attempt(1), text)
    found = await Records(place.client).output(place.task, 1)
    assert found is not None
    assert found.text == text


async def test_a_longer_one_is_only_named(place: Place) -> None:
    records = Records(place.client)
    await records.put_output(place.attempt(1), "x" * 16385)
    assert await records.output(place.task, 1) == StoredOutput(ref=place.ref)


@pytest.mark.parametrize(
    ("checkpoint", "output"),
    [
        pytest.param(MAX_RECORD_BYTES, "", id="checkpoint"),
        pytest.param(1, "a" * (MAX_RECORD_BYTES - 1), id="output"),
        pytest.param(MAX_RECORD_BYTES // 2, 'a "line"\n' * (MAX_RECORD_BYTES // 18), id="half and half"),
        pytest.param(1, "<>&" * (75 * 1024), id="six bytes a character"),
    ],
)
async def test_the_largest_that_is_taken_fits_the_store(place: Place, checkpoint: int, output: str) -> None:
    records = Records(place.client)
    await records.put_checkpoint(place.attempt(1), b"\xff" * checkpoint)
    await records.put_output(place.attempt(1), output)
    assert len(await records.checkpoint(place.attempt(2))) == checkpoint
    assert (await place.stored()).output == output


async def test_what_does_not_fit_beside_the_other_is_refused_with_sizes(place: Place) -> None:
    records = Records(place.client)
    await records.put_checkpoint(place.attempt(1), bytes(MAX_RECORD_BYTES - 10))
    with pytest.raises(
        TooLarge, match=rf"the output has 11 bytes, with {MAX_RECORD_BYTES - 10} bytes stored beside it; .* {MAX_RECORD_BYTES}\."
    ):
        await records.put_output(place.attempt(1), "x" * 11)
    with pytest.raises(TooLarge, match=f"the checkpoint has {MAX_RECORD_BYTES + 1} bytes; "):
        await records.put_checkpoint(place.attempt(1), bytes(MAX_RECORD_BYTES + 1))
    await records.put_output(place.attempt(1), "x" * 10)


async def test_what_the_store_would_not_take_is_refused_before_it_is_asked(place: Place) -> None:
    with pytest.raises(TooLarge, match="takes 2400000 bytes as JSON beside 0 others, the store holds 1433600"):
        await Records(place.client).put_output(place.attempt(1), "\x01" * 400_000)


async def test_a_record_that_somebody_deletes_is_made_anew(place: Place) -> None:
    records = Records(place.client)
    await records.put_checkpoint(place.attempt(1), b"one")
    await place.client.delete(place.path, uid=(await place.stored()).metadata.uid)
    await records.put_checkpoint(place.attempt(1), b"two")
    assert await records.checkpoint(place.attempt(2)) == b"two"


async def test_a_stranger_s_record_is_left_alone(place: Place) -> None:
    body = {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTaskRecord", "metadata": {"name": record_name(place.name, place.uid)}}
    body |= {"task": "other", "taskUID": "other", "attempt": 1, "output": "theirs"}
    await place.client.create(place.path.rpartition("/")[0], msgspec.json.encode(body))
    records = Records(place.client)
    for call in (records.put_checkpoint(place.attempt(1), b"x"), records.checkpoint(place.attempt(2))):
        with pytest.raises(Unavailable, match="exists and is not this task's; delete it"):
            await call
    assert await records.output(place.task, 1) is None
    assert (await place.stored()).output == "theirs"
