"""The mirror under everything that a watch can do to it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from msgspec import Struct
from tests.fakes.apiserver import FakeApiServer

from agenttask.api.meta import ObjectMeta
from agenttask.controller import reflector
from agenttask.controller.kube import KubeClient
from agenttask.controller.kube_paths import pods_path
from agenttask.controller.reflector import Reflector

PODS = pods_path("default")


class PodStatus(Struct, frozen=True):
    phase: str = ""


class Pod(Struct, frozen=True):
    metadata: ObjectMeta
    status: PodStatus = PodStatus()


class Mirror:
    """A running reflector and what it said: `+a`, `~a`, `-a`."""

    def __init__(self, client: KubeClient, **options: object) -> None:
        self.said: list[str] = []
        self.slept: list[float] = []
        self.reflector = Reflector(
            client,
            PODS,
            Pod,
            key=lambda pod: pod.metadata.name,
            on_change=self._changed,
            random=lambda: 1.0,
            sleep=self._sleep,
            **options,  # type: ignore[arg-type]  # the tests' own options
        )

    def _changed(self, old: Pod | None, new: Pod | None) -> None:
        sign = "+" if old is None else "-" if new is None else "~"
        some = new or old
        assert some is not None
        self.said.append(sign + some.metadata.name)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(min(seconds, 1.0) / 20)

    @property
    def names(self) -> list[str]:
        return sorted(self.reflector.items)


Start = Callable[..., "asyncio.Future[Mirror]"]


@asynccontextmanager
async def mirror(client: KubeClient, **options: object) -> AsyncIterator[Mirror]:
    found = Mirror(client, **options)
    running = asyncio.create_task(found.reflector.run())
    try:
        yield found
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        if not running.cancelled() and (error := running.exception()) is not None:
            raise error


def pod(name: str, **meta: object) -> dict[str, object]:
    return {"metadata": {"name": name, **meta}}


def watches(server: FakeApiServer) -> list[str]:
    return [path for _, path in server.requests if "watch=true" in path]


async def opened(server: FakeApiServer, count: int) -> None:
    """Wait until so many watches have been asked for, and the last one is open: between two there is none for a moment only."""
    await server.until(lambda: len(watches(server)) == count and len(server.watches))


def lists(server: FakeApiServer) -> list[str]:
    return [path for _, path in server.requests if "watch=true" not in path]


async def test_what_is_there_is_listed_and_what_comes_is_watched(server: FakeApiServer, client: KubeClient) -> None:
    server.put("pods", pod("a"))
    async with mirror(client) as found:
        assert not found.reflector.synced.is_set()
        await found.reflector.synced.wait()
        assert found.names == ["a"]
        await server.until(lambda: len(server.watches))

        server.put("pods", pod("b"))
        server.kubelet.set_status("a", {"phase": "Running"})
        server.remove("pods", "b")
        await server.until(lambda: found.said[-1] == "-b")

    assert found.said == ["+a", "+b", "~a", "-b"]
    assert found.reflector.items["a"].status.phase == "Running"
    assert server.writes == []


async def test_a_large_collection_is_listed_in_pages(server: FakeApiServer, client: KubeClient) -> None:
    for number in range(1200):
        server.put("pods", pod(f"p{number:04d}"))
    async with mirror(client) as found:
        await found.reflector.synced.wait()

    assert len(found.names) == 1200
    assert len(lists(server)) == 3


async def test_selectors_go_to_the_server_and_leaving_them_is_a_disappearance(server: FakeApiServer, client: KubeClient) -> None:
    server.put("pods", pod("a", labels={"ours": "yes"}))
    server.put("pods", pod("b"))
    async with mirror(client, label_selector="ours=yes", field_selector="status.phase!=Succeeded") as found:
        await server.until(lambda: len(server.watches))
        assert found.names == ["a"]
        server.kubelet.set_status("a", {"phase": "Succeeded"})
        await server.until(lambda: found.said == ["+a", "-a"])


async def test_metadata_only_asks_for_no_more(server: FakeApiServer, client: KubeClient) -> None:
    server.put("pods", pod("a"))
    async with mirror(client, metadata_only=True) as found:
        await server.until(lambda: len(server.watches))
        server.put("pods", pod("b"))
        await server.until(lambda: found.names == ["a", "b"])

    assert found.reflector.items["a"].status.phase == ""


async def test_a_pod_deleted_while_the_watch_was_blind_is_reported_by_the_next_list(server: FakeApiServer, client: KubeClient) -> None:
    server.put("pods", pod("gone"))
    server.put("pods", pod("stays"))
    async with mirror(client) as found:
        await server.until(lambda: len(server.watches))
        server.stall_watches()
        server.remove("pods", "gone")
        server.put("pods", pod("new"))
        server.compact()
        server.drop_watches()
        await server.until(lambda: found.names == ["new", "stays"])

    assert found.said == ["+gone", "+stays", "-gone", "+new"]
    assert len(lists(server)) == 2


async def test_a_namesake_born_in_a_gap_is_a_change_and_not_the_old_one(server: FakeApiServer, client: KubeClient) -> None:
    first = server.put("pods", pod("a"))
    async with mirror(client) as found:
        await server.until(lambda: len(server.watches))
        server.stall_watches()
        server.remove("pods", "a")
        second = server.put("pods", pod("a"))
        server.compact()
        server.drop_watches()
        await server.until(lambda: found.said == ["+a", "~a"])

    assert first["metadata"]["uid"] != second["metadata"]["uid"] == found.reflector.items["a"].metadata.uid


async def test_a_lost_stream_resumes_after_the_last_event_and_misses_nothing(server: FakeApiServer, client: KubeClient) -> None:
    async with mirror(client) as found:
        await server.until(lambda: len(server.watches))
        made = server.put("pods", pod("a"))
        await server.until(lambda: found.names == ["a"])
        server.drop_watches(rest=b'{"type": "ADDED", "obj')
        server.put("pods", pod("b"))
        await server.until(lambda: found.names == ["a", "b"])

    assert len(lists(server)) == 1
    assert f"resourceVersion={made['metadata']['resourceVersion']}" in watches(server)[1]


async def test_a_bookmark_moves_the_point_of_resuming(server: FakeApiServer, client: KubeClient) -> None:
    async with mirror(client) as found:
        await server.until(lambda: len(server.watches))
        before = found.reflector.last_event
        server.put("configmaps", pod("elsewhere"))
        server.bookmark()
        await server.until(lambda: found.reflector.last_event > before)
        server.compact()
        server.drop_watches(clean=True)
        await server.until(lambda: len(watches(server)) == 2 and len(server.watches))

    assert len(lists(server)) == 1
    assert f"resourceVersion={server.store.version}" in watches(server)[1]


async def test_a_silent_watch_is_given_up_and_resumed(server: FakeApiServer, impatient: KubeClient) -> None:
    async with mirror(impatient) as found:
        await server.until(lambda: len(server.watches))
        server.stall_watches()
        server.put("pods", pod("a"))
        await server.until(lambda: found.names == ["a"])

    assert len(lists(server)) == 1


async def test_a_server_that_ends_every_watch_at_once_is_not_hammered(server: FakeApiServer, client: KubeClient) -> None:
    server.fail_next("GET", "watch=true", 500, times=1000)
    async with mirror(client) as found:
        await server.until(lambda: len(watches(server)) >= 9)

    assert found.slept[:4] == [0.2, 0.4, 0.8, 1.6]
    assert max(found.slept) <= 30.0
    assert len(server.requests) <= len(found.slept) + 4


async def test_watches_closed_cleanly_at_once_back_off_too(server: FakeApiServer, client: KubeClient) -> None:
    async with mirror(client) as found:
        for number in range(1, 5):
            await opened(server, number)
            server.drop_watches(clean=True)
        await opened(server, 5)

    assert found.slept[:3] == [0.2, 0.4, 0.8]


async def test_after_a_good_watch_the_first_failure_counts_as_the_first(server: FakeApiServer, client: KubeClient) -> None:
    now = [0.0]
    async with mirror(client, clock=lambda: now[0]) as found:
        for number in range(1, 4):
            await opened(server, number)
            now[0] += 11
            server.drop_watches(clean=True)
        await opened(server, 4)

    assert set(found.slept) == {0.2}


async def test_the_servers_wish_to_wait_is_kept_with_jitter_on_top(server: FakeApiServer, client: KubeClient) -> None:
    server.fail_next("GET", "/pods", 429, retry_after=5)
    async with mirror(client) as found:
        await found.reflector.synced.wait()

    assert found.slept == [5.2]


@pytest.mark.parametrize(("status", "forbidden"), [(403, True), (404, False)])
async def test_a_missing_right_is_shown_and_tried_again_slowly(
    server: FakeApiServer, client: KubeClient, status: int, forbidden: bool
) -> None:
    server.fail_next("GET", "/pods", status, times=2)
    async with mirror(client) as found:
        await server.until(lambda: found.slept)
        assert found.reflector.forbidden is forbidden
        await found.reflector.synced.wait()
        assert not found.reflector.forbidden

    assert found.slept == [10.0, 20.0]


async def test_a_right_revoked_later_is_found_by_listing_again(server: FakeApiServer, client: KubeClient) -> None:
    server.put("pods", pod("a"))
    async with mirror(client) as found:
        await server.until(lambda: len(server.watches))
        server.fail_next("GET", "watch=true", 403)
        server.drop_watches()
        await server.until(lambda: found.reflector.forbidden)
        assert found.names == ["a"]
        await server.until(lambda: not found.reflector.forbidden and len(server.watches))

    assert len(lists(server)) == 2


@pytest.mark.parametrize(
    "line",
    [
        b"no json\n",
        b'{"type": "ADDED"}\n',
        b'{"type": "PARTY", "object": {}}\n',
        b'{"type": "ADDED", "object": 5}\n',
        b'{"type": "BOOKMARK", "object": 5}\n[]\n',
        b"[]\n",
    ],
    ids=["no-json", "no-object", "unknown-type", "object-is-a-number", "odd-bookmark", "array"],
)
async def test_a_malformed_line_leads_to_a_new_list(server: FakeApiServer, client: KubeClient, line: bytes) -> None:
    async with mirror(client) as found:
        await server.until(lambda: len(server.watches))
        server.push("pods", line)
        await server.until(lambda: len(lists(server)) == 2)
        server.put("pods", pod("a"))
        await server.until(lambda: found.names == ["a"])


async def test_a_list_that_is_no_list_is_tried_again(server: FakeApiServer, client: KubeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    good = client.list

    async def garbage(*args: object, **options: object) -> AsyncIterator[bytes]:
        monkeypatch.setattr(client, "list", good)
        yield b"<html>"

    monkeypatch.setattr(client, "list", garbage)
    async with mirror(client) as found:
        await found.reflector.synced.wait()

    assert found.slept == [0.2]


@pytest.mark.parametrize("status", [500, 504, 410])
async def test_an_error_event_is_no_end(server: FakeApiServer, client: KubeClient, status: int) -> None:
    async with mirror(client) as found:
        await server.until(lambda: len(server.watches))
        server.push("pods", b'{"type": "ERROR", "object": {"kind": "Status", "code": %d, "message": "m"}}\n' % status)
        server.put("pods", pod("a"))
        await server.until(lambda: found.names == ["a"])

    assert len(lists(server)) == (2 if status == 410 else 1)


async def test_a_version_that_the_server_never_reaches_is_doubted_in_the_end(server: FakeApiServer, client: KubeClient) -> None:
    """An etcd restored from a backup counts from an older version."""
    async with mirror(client) as found:
        await server.until(lambda: len(server.watches))
        server.store.version -= 500
        server.drop_watches()
        await server.until(lambda: len(lists(server)) == 2)
        server.put("pods", pod("a"))
        await server.until(lambda: found.names == ["a"])


async def test_repeated_events_say_nothing_new(server: FakeApiServer, client: KubeClient) -> None:
    server.put("pods", pod("a"))
    async with mirror(client) as found:
        await server.until(lambda: len(server.watches))
        again = b'{"type": "DELETED", "object": {"metadata": {"name": "b"}}}\n'
        server.push("pods", again + again)
        server.put("pods", pod("c"))
        await server.until(lambda: found.names == ["a", "c"])

    assert found.said == ["+a", "+c"]


async def test_an_object_of_another_shape_is_skipped_and_logged_once(
    server: FakeApiServer, client: KubeClient, caplog: pytest.LogCaptureFixture
) -> None:
    server.put("pods", pod("a"))
    server.put("pods", pod("odd", labels=[1, 2]))
    with caplog.at_level(logging.WARNING):
        async with mirror(client) as found:
            await server.until(lambda: len(server.watches))
            for number in range(3):
                server.patch("pods", "odd", {"metadata": {"annotations": {"n": str(number)}}})
            server.put("pods", pod("b"))
            await server.until(lambda: found.names == ["a", "b"])

    assert [record.getMessage().split(",")[0] for record in caplog.records] == [f"skipping 'odd' of {PODS}"]


async def test_an_outage_is_logged_once(server: FakeApiServer, client: KubeClient, caplog: pytest.LogCaptureFixture) -> None:
    server.fail_next("GET", "/pods", 503, times=4)
    with caplog.at_level(logging.WARNING):
        async with mirror(client) as found:
            await found.reflector.synced.wait()

    assert len(caplog.records) == 1
    assert "503" in caplog.text


async def test_an_error_of_the_callback_ends_it(server: FakeApiServer, client: KubeClient) -> None:
    server.put("pods", pod("a"))

    def broken(old: Pod | None, new: Pod | None) -> None:
        raise LookupError("a bug")

    with pytest.raises(LookupError):
        await Reflector(client, PODS, Pod, key=lambda found: found.metadata.name, on_change=broken).run()


async def test_the_view_is_read_only(server: FakeApiServer, client: KubeClient) -> None:
    async with mirror(client) as found:
        with pytest.raises(TypeError):
            found.reflector.items["x"] = None  # type: ignore[index]


async def test_what_is_not_wanted_counts_as_not_there(server: FakeApiServer, client: KubeClient) -> None:
    server.put("pods", {**pod("old"), "status": {"phase": "Succeeded"}})
    server.put("pods", pod("a"))
    async with mirror(client, wanted=lambda found: found.status.phase != "Succeeded") as found:
        await found.reflector.synced.wait()
        assert found.names == ["a"]
        await server.until(lambda: len(server.watches))

        server.put("pods", {**pod("b"), "status": {"phase": "Succeeded"}})
        server.kubelet.set_status("a", {"phase": "Succeeded"})
        server.put("pods", pod("c"))
        await server.until(lambda: found.said[-1] == "+c")

    assert (found.said, found.names) == (["+a", "+b", "-b", "-a", "+c"], ["c"])


async def test_what_is_wanted_no_more_is_let_go_without_a_word_as_others_come(
    server: FakeApiServer, client: KubeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflector, "PRUNED_ABOVE", 2)
    left: set[str] = set()
    async with mirror(client, wanted=lambda found: found.metadata.name not in left) as found:
        await found.reflector.synced.wait()
        await server.until(lambda: len(server.watches))
        found.reflector.prune()
        for name in ("a", "b", "c"):
            server.put("pods", pod(name))
            await server.until(lambda name=name: found.said[-1:] == [f"+{name}"])  # type: ignore[misc]
            left.add(name)

        assert found.names == ["c"], "pruned when the third came, which is wanted then"
        server.kubelet.set_status("a", {"phase": "Running"})
        server.remove("pods", "b")
        server.put("pods", pod("d"))
        await server.until(lambda: found.said[-1] == "+d")
        found.reflector.prune()

    assert (found.said, found.names) == (["+a", "+b", "+c", "+d"], ["d"])
