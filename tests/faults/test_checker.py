"""The checker finds what it is for: each invariant is broken in a made-up history."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from tests.fakes.cut_off_watch import without_cut_off_watches
from tests.faults.checker import End, History, belated, check, counted, unquiet
from tests.faults.history import Version, Write, begun_after, read_writes

DONE = {"phase": "Succeeded", "reason": "Succeeded", "observedGeneration": 1}
USER = "system:serviceaccount:operators:ours"


def task(version: int, status: dict[str, Any] | None = None, *, kind: str = "MODIFIED", uid: str = "t1") -> Version:
    body = {"metadata": {"name": "a", "uid": uid, "resourceVersion": str(version)}} | ({"status": status} if status else {})
    return Version(kind=kind, plural="agenttasks", object=body, at=0.0)


def pod(version: int, phase: str = "Pending", *, kind: str = "MODIFIED", uid: str = "p1", owner: str | None = "t1") -> Version:
    refs = [{"kind": "AgentTask", "uid": owner, "controller": True}] if owner else []
    meta = {"name": f"a-{uid}", "uid": uid, "resourceVersion": str(version), "ownerReferences": refs}
    return Version(kind=kind, plural="pods", object={"metadata": meta, "status": {"phase": phase}}, at=0.0)


def write(verb: str, plural: str, *, sent: dict[str, Any] | None = None, subresource: str = "") -> Write:
    return Write(
        verb=verb,
        user=USER,
        agent="",
        plural=plural,
        namespace="n",
        name="a",
        subresource=subresource,
        code=200,
        sent=sent or {},
        answered={},
        at=datetime.fromtimestamp(0, UTC),
    )


WELL = [task(1, kind="ADDED"), pod(2, kind="ADDED"), pod(3, "Succeeded"), task(4, DONE)]
END = {"a": End(phase="Succeeded", reason="Succeeded")}
STATUS = write("patch", "agenttasks", sent={"metadata": {"resourceVersion": "3"}, "status": DONE}, subresource="status")


def broken(versions: list[Version], **rest: Any) -> set[str]:
    """The invariants that are found broken."""
    found = check(History(versions=versions, users=frozenset({USER}), **rest), END)
    return {one.split(":")[0] for one in found}


def test_a_good_run_is_good() -> None:
    posted = write("create", "pods", sent=WELL[1].object)
    assert broken(WELL, writes=[posted, STATUS]) == set()


PLANTED = {
    "a second live pod": (
        [*WELL[:2], pod(3, kind="ADDED", uid="p2"), pod(5, "Succeeded"), pod(6, "Failed", uid="p2"), task(9, DONE)],
        {"I1", "I4"},
    ),
    "one that was replaced while it ended": ([*WELL[:2], pod(3, "Failed"), pod(4, kind="ADDED", uid="p2"), task(9, DONE)], {"I4"}),
    "no end": (WELL[:3], {"I7"}),
    "another end": ([*WELL[:3], task(4, {"phase": "Failed", "reason": "Lost"})], {"I7"}),
    "a task that is gone": ([*WELL, pod(5, kind="DELETED"), task(6, kind="DELETED")], {"I2"}),
    "a pod that outlives its task": ([*WELL[:3], task(5, kind="DELETED"), task(6, DONE, kind="ADDED", uid="t2")], {"I3"}),
    "a pod after the end": ([*WELL, pod(5, "Failed", kind="ADDED", uid="p2")], {"I4"}),
    "an end that is taken back": ([*WELL, task(5, {**DONE, "phase": "Running"}), task(6, DONE)], {"I5"}),
    "a generation that goes back": ([*WELL[:3], task(4, {"observedGeneration": 2}), task(5, DONE)], {"I5"}),
    "the status of a namesake": ([*WELL[:3], task(4, DONE | {"podName": "a-0123456789-1"})], {"I3"}),
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_violation_is_found(what: str) -> None:
    versions, found = PLANTED[what]
    assert broken(versions) == found


@pytest.mark.parametrize(
    ("writes", "found"),
    [
        ([write("create", "pods", sent={"metadata": {}})], {"I3"}),
        ([write("delete", "pods")], {"I3"}),
        ([write("delete", "pods", sent={"preconditions": {"uid": "stranger"}})], {"I3"}),
        ([write("delete", "pods", sent={"preconditions": {"uid": "p1"}})], set()),
        ([write("patch", "agenttasks", subresource="status")], {"I3"}),
        ([write("patch", "agenttasks")], {"I3"}),
        ([write("delete", "agenttasks", sent={"preconditions": {"uid": "t1"}})], {"I3"}),
        ([write("list", "secrets")], {"I8"}),
    ],
)
def test_a_write_that_is_not_ours_to_make_is_found(writes: list[Write], found: set[str]) -> None:
    assert broken(WELL, writes=writes) == found


def test_only_a_final_task_whose_time_is_over_may_be_deleted_and_by_its_uid() -> None:
    brief = Version(kind="MODIFIED", plural="agenttasks", object=WELL[3].object | {"spec": {"ttlSecondsAfterFinished": 1}}, at=0.0)
    assert broken([*WELL[:3], brief], writes=[write("delete", "agenttasks", sent={"preconditions": {"uid": "t1"}})]) == set()
    assert broken([*WELL[:3], brief], writes=[write("delete", "agenttasks")]) == {"I3"}


def test_late_writes_secrets_and_tracebacks_are_found() -> None:
    assert broken(WELL, late=[STATUS]) == {"I6"}
    assert counted(STATUS, {USER})
    assert not belated(STATUS)
    assert belated(structs.replace(STATUS, code=409))
    assert not counted(write("get", "pods"), {USER})
    assert broken(WELL, secrets=["Succeeded"]) == {"I8"}
    assert broken(WELL, log="token s3cret", secrets=["s3cret"]) == {"I8"}
    assert broken(WELL, log="Traceback (most recent call last)") == {"traceback in the log"}


def test_what_was_begun_before_may_come_late_and_not_again_and_again() -> None:
    told = write("patch", "agentqueues", subresource="status")
    refused = structs.replace(STATUS, code=409)
    assert broken(WELL, late=[told, refused] * 3) == set()
    assert unquiet([told] * 4, {USER}) == ["I6: patch agentqueues/a 4 times after all was still"]
    assert unquiet([refused] * 4, {USER}) == ["I6: patch agenttasks/a 4 times after all was still"]
    assert unquiet([structs.replace(told, name=name) for name in "abcd"], {USER}) == []
    assert unquiet([told] * 4, {"somebody else"}) == []


CUT_OFF = """\
2026-11-26 07:39:32,280 ERROR   an error occurred during closing of asynchronous generator <async_generator object infinite_watch at 0x7f>
asyncgen: <async_generator object infinite_watch at 0x7f>
Traceback (most recent call last):
  File "kopf/_cogs/clients/watching.py", line 88, in infinite_watch
    yield raw_event
GeneratorExit

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "kopf/_cogs/clients/watching.py", line 75, in infinite_watch
    async with streaming_block(
RuntimeError: generator didn't stop after athrow()
"""


def test_a_watch_of_kopf_that_sigterm_cuts_off_is_no_traceback_of_ours() -> None:
    ours = "2026-11-26 07:39:33,000 ERROR   task t1: reconciling failed\nTraceback (most recent call last):\nKeyError: 1\n"
    assert broken(WELL, log=CUT_OFF) == set()
    assert broken(WELL, log=CUT_OFF + ours) == {"traceback in the log"}
    assert broken(WELL, log=CUT_OFF.split("RuntimeError")[0] + ours + CUT_OFF) == {"traceback in the log"}
    assert broken(WELL, log=CUT_OFF.replace("infinite_watch", "stream_of_ours")) == {"traceback in the log"}


def test_it_is_forgiven_in_a_log_of_json_too() -> None:
    said, begins, trace = CUT_OFF.partition("ERROR   ")[2].strip().partition("\nTraceback")
    cut_off = json.dumps({"level": "error", "message": said, "exception": (begins + trace).strip()})
    ours = json.dumps({"level": "error", "message": "task t1: reconciling failed", "exception": "Traceback (most recent call last):\n"})
    assert "Traceback" not in without_cut_off_watches(cut_off)
    assert ours in without_cut_off_watches(f"{cut_off}\n{ours}\n{cut_off}")
    assert ours in without_cut_off_watches(f"{cut_off.partition('RuntimeError')[0]}\n{ours}\n{cut_off}")


def test_a_write_is_late_by_its_time_and_not_by_its_line(tmp_path: Path) -> None:
    """An answer of more than 4 KiB is sent before the request is over, and its line may come after those of later requests."""
    log = tmp_path / "audit.log"
    lines = [
        {"verb": "patch", "user": {"username": USER}, "objectRef": {"namespace": "n", "name": name}, "requestReceivedTimestamp": at}
        for name, at in (("second", "2026-01-01T00:00:02.000000Z"), ("first", "2026-01-01T00:00:01.000000Z"))
    ]
    log.write_text("".join(json.dumps(one) + "\n" for one in lines))
    writes = read_writes(log, 0, "n")
    assert [one.name for one in begun_after(writes, datetime(2026, 1, 1, 0, 0, 1, 500000, UTC))] == ["second"]


def test_a_pod_on_a_lost_node_may_be_left_beside_the_next() -> None:
    versions = [*WELL[:2], pod(3, kind="ADDED", uid="p2"), pod(4, "Succeeded", uid="p2"), task(9, DONE)]
    allowed = {"a": End(phase="Succeeded", reason="Succeeded", pods=2)}
    assert not check(History(versions=versions, fenced=frozenset({"p1"})), allowed)


def test_the_status_of_a_task_tells_of_its_own_pods() -> None:
    name = f"a-{hashlib.sha256(b't1').hexdigest()[:10]}-1"
    assert broken([*WELL[:3], task(4, DONE | {"podName": name})]) == set()
