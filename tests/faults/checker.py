"""The invariants that hold in every run, whatever is done to the cluster; pure, over what a run left behind.

I1 one live pod a task. I2, I7 every task ends as the table says, as without faults. I3 nothing of ours outlives its owner,
nothing of others is touched. I4 attempts are bounded, what has finished is not run again. I5 what is final stays.
I6 nothing is written once all is still, and nothing comes again and again. I8 no secret in status, log or requests, and none is read.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from tests.fakes.cut_off_watch import without_cut_off_watches
from tests.faults.history import Version, Write

TERMINAL: Final = ("Succeeded", "Failed", "Cancelled")
_UNCOUNTED: Final = ("leases", "events")
_READS: Final = ("get", "list", "watch")
MOST_BELATED: Final = 3
"""Of one object: what was on its way, and a queue's length once or twice more while a busy controller sees the last tasks end."""


class End(Struct, frozen=True, kw_only=True):
    """How a task is to stand when all is still: phase and reason, and how many pods it may have had in all.

    `gone`: the task was deleted. `output` None is not looked at. `unseen` are further pods that are allowed where the
    controller may be killed: a pod that it deleted and whose end it had not written down is run again (at least once).
    """

    phase: str = ""
    reason: str = ""
    output: str | None = None
    pods: int = 1
    unseen: int = 0
    gone: bool = False


class History(Struct, frozen=True, kw_only=True):
    """What a run left behind. `writes` are of all users, `users` those of our controllers.

    `fenced` are uids of pods whose node was lost: the next attempt may start beside them. `foreign` are names of pods
    that are not ours. `late` are writes after everything was still.
    """

    versions: Sequence[Version]
    writes: Sequence[Write] = ()
    users: frozenset[str] = frozenset()
    log: str = ""
    secrets: Sequence[str] = ()
    fenced: frozenset[str] = frozenset()
    late: Sequence[Write] = ()
    kills: int = 0

    @property
    def ordered(self) -> list[Version]:
        """In the order of etcd."""
        return sorted(self.versions, key=lambda one: int(one.object["metadata"]["resourceVersion"]))

    @property
    def ours(self) -> list[Write]:
        """What our controllers asked for."""
        return [one for one in self.writes if one.user in self.users and one.plural not in _UNCOUNTED]


def check(history: History, ends: Mapping[str, End]) -> list[str]:
    """Every violation, each a sentence that begins with its invariant."""
    return [
        *_one_live_pod(history),
        *_ends(history, ends),
        *_left_behind(history),
        *_touched(history),
        *_attempts(history, ends),
        *_final(history),
        *unquiet(history.late, history.users),
        *_secrets(history),
        *_log(history),
    ]


def owner(pod: Mapping[str, Any]) -> str:
    """The uid of the task that controls a pod."""
    refs = pod["metadata"].get("ownerReferences") or []
    return next((str(one["uid"]) for one in refs if one.get("controller") and one["kind"] == "AgentTask"), "")


def live(pod: Mapping[str, Any]) -> bool:
    """Whether something of it may still run."""
    status = pod.get("status", {})
    states = [one.get("state", {}) for one in status.get("containerStatuses") or []]
    return status.get("phase") not in ("Succeeded", "Failed") and not (states and all("terminated" in one for one in states))


def _one_live_pod(history: History) -> Iterator[str]:
    alive: dict[str, dict[str, str]] = defaultdict(dict)
    for one in history.ordered:
        task = owner(one.object) if one.plural == "pods" else ""
        if not task:
            for pods in alive.values():  # somebody made it another's
                pods.pop(one.uid, None)
            continue
        others = {uid: name for uid, name in alive[task].items() if uid != one.uid and uid not in history.fenced}
        if one.kind == "ADDED" and others:
            yield f"I1: pod {one.name} ({one.uid}) was made while {sorted(others.values())} of the same task may live"
        if one.kind != "DELETED" and live(one.object):
            alive[task][one.uid] = one.name
        else:
            alive[task].pop(one.uid, None)


def _ends(history: History, ends: Mapping[str, End]) -> Iterator[str]:
    last: dict[str, Version] = {}
    for one in history.ordered:
        if one.plural == "agenttasks":
            last[one.name] = one
    for name, end in ends.items():
        found = last.get(name)
        if found is None or (found.kind == "DELETED") is not end.gone:
            yield f"I2: task {name} is {'absent' if found is None or found.kind == 'DELETED' else 'still there'}"
        elif not end.gone:
            status = found.object.get("status") or {}
            seen = (status.get("phase", ""), status.get("reason", ""))
            if seen != (end.phase, end.reason):
                yield f"I7: task {name} stands at {seen}, without faults it is {(end.phase, end.reason)}: {status.get('message')}"
            elif end.output is not None and status.get("output") != end.output:
                yield f"I7: task {name} has the output {status.get('output')!r}, without faults it is {end.output!r}"


def _left_behind(history: History) -> Iterator[str]:
    there: dict[str, Version] = {}
    for one in history.ordered:
        there.pop(one.uid, None)
        if one.kind != "DELETED":
            there[one.uid] = one
    for one in there.values():
        task = owner(one.object) if one.plural == "pods" else ""
        if task and task not in there and one.uid not in history.fenced:
            yield f"I3: pod {one.name} outlives its task"


def _touched(history: History) -> Iterator[str]:
    """Our writes: pods of our tasks are made and deleted, by uid; of tasks only the status is written, by resourceVersion.

    A final task whose time to live is over is deleted, by uid too.
    """
    owners = {one.uid: owner(one.object) for one in history.versions if one.plural == "pods"}
    expiring = {one.uid for one in history.versions if one.plural == "agenttasks" and _expires(one.object)}
    for write in history.ours:
        problem = _problem(write, owners, expiring)
        if problem is not None:
            yield f"I3: {write.verb} {write.plural}/{write.name}{'/' + write.subresource if write.subresource else ''}: {problem}"
    for one in history.versions:
        told = (one.object.get("status") or {}).get("podName") if one.plural == "agenttasks" else None
        if told and hashlib.sha256(one.uid.encode()).hexdigest()[:10] not in told:
            yield f"I3: the status of {one.name} ({one.uid}) tells of a pod of another task: {told}"


def _expires(task: Mapping[str, Any]) -> bool:
    return (task.get("status") or {}).get("phase") in TERMINAL and "ttlSecondsAfterFinished" in task.get("spec", {})


def _problem(write: Write, owners: Mapping[str, str], expiring: Collection[str]) -> str | None:
    uid = (write.sent.get("preconditions") or {}).get("uid")
    match write.verb, write.plural, write.subresource:
        case ("create", "pods", ""):
            return None if owner(write.sent) else "a pod without an owner"
        case ("delete", "pods", "") if uid is None:
            return "without the uid of what is meant"
        case ("delete", "pods", ""):
            return "it is not ours" if write.code < 300 and not owners.get(uid) else None
        case ("patch", "agenttasks", "status"):
            return None if (write.sent.get("metadata") or {}).get("resourceVersion") else "without the resourceVersion it was planned from"
        case ("delete", "agenttasks", "") if uid in expiring:
            return None
        case (verb, "pods" | "agenttasks", _) if verb not in _READS:
            return "not ours to do"
    return None


def _attempts(history: History, ends: Mapping[str, End]) -> Iterator[str]:
    names = {one.uid: one.name for one in history.versions if one.plural == "agenttasks"}
    made: Counter[str] = Counter()
    final: set[str] = set()
    succeeded: dict[str, set[str]] = defaultdict(set)
    for one in history.ordered:
        if one.plural == "agenttasks":
            if (one.object.get("status") or {}).get("phase") in TERMINAL:
                final.add(one.uid)
            continue
        task = owner(one.object)
        if not task:
            continue
        if one.kind == "ADDED":
            made[task] += 1
            if task in final:
                yield f"I4: pod {one.name} was made after its task was final"
            if succeeded[task]:
                yield f"I4: pod {one.name} was made beside one that had succeeded: {sorted(succeeded[task])}"
        if one.kind == "DELETED":
            succeeded[task].discard(one.name)
        elif one.object.get("status", {}).get("phase") == "Succeeded":
            succeeded[task].add(one.name)
    for task, count in made.items():
        end = ends.get(names.get(task, ""))
        allowed = end.pods + min(history.kills, end.unseen) if end is not None else count
        if count > allowed:
            yield f"I4: task {names[task]} had {count} pods, {allowed} are allowed"


def _final(history: History) -> Iterator[str]:
    ended: dict[str, Any] = {}
    generations: dict[str, int] = defaultdict(int)
    for one in history.ordered:
        if one.plural != "agenttasks" or one.kind == "DELETED":
            continue
        status = one.object.get("status") or {}
        observed = int(status.get("observedGeneration") or 0)
        if observed < generations[one.uid]:
            yield f"I5: observedGeneration of {one.name} went back from {generations[one.uid]} to {observed}"
        generations[one.uid] = observed
        if one.uid in ended and status != ended[one.uid]:
            yield f"I5: {one.name} was final, {_brief(ended[one.uid])}, and became {_brief(status)}"
        if status.get("phase") in TERMINAL:
            ended[one.uid] = status


def counted(write: Write, users: Collection[str]) -> bool:
    """Whether it is a write of ours that breaks the silence."""
    return write.user in users and write.plural not in _UNCOUNTED and write.verb not in _READS


def belated(write: Write) -> bool:
    """Whether it may have been begun before all was still: it came too late to change anything, or tells how long a queue is."""
    return write.code in (404, 409) or write.plural == "agentqueues"


def unquiet(late: Iterable[Write], users: Collection[str]) -> list[str]:
    """What breaks the silence: a write of ours that was begun after all was still, and one that comes again and again."""
    ours = [one for one in late if counted(one, users)]
    begun = [f"I6: {one.verb} {one.plural}/{one.name} after all was still" for one in ours if not belated(one)]
    often = Counter((one.user, one.verb, one.plural, one.name) for one in ours if belated(one))
    return begun + [
        f"I6: {verb} {plural}/{name} {count} times after all was still"
        for (_, verb, plural, name), count in often.items()
        if count > MOST_BELATED
    ]


def _secrets(history: History) -> Iterator[str]:
    for write in history.ours:
        if write.plural == "secrets":
            yield f"I8: our controller asked for a Secret: {write.verb} {write.name}"
    for secret in history.secrets:
        if any(secret in json.dumps(one.object) for one in history.versions):
            yield "I8: a secret stands in an object"
        if any(secret in json.dumps(one.sent) for one in history.ours):
            yield "I8: a secret was sent to the API server"
        if secret in history.log:
            yield "I8: a secret stands in the log"


def _log(history: History) -> Iterator[str]:
    """A traceback is a bug, whatever the cluster does; kopf's own watch may be cut off in mid-event when the process ends."""
    log = without_cut_off_watches(history.log)
    if "Traceback" in log:
        begins = log.index("Traceback")
        yield f"traceback in the log: {log[max(0, begins - 300) : begins + 2500]}"


def _brief(status: Mapping[str, Any]) -> str:
    return f"{status.get('phase')}/{status.get('reason')}"
