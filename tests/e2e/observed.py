"""The fault tests' eyes on a real cluster: a client of the API with all rights, and what a task's objects went through."""

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.cluster import Namespace
from tests.faults.api import Api
from tests.faults.checker import End, History, check, owner
from tests.faults.history import Recorder, Version


@contextmanager
def administrator(namespace: Namespace) -> Iterator[Api]:
    """A client that may do everything, by an account of the namespace that lasts as long as this; open it with `async with`."""
    name = f"observer-{secrets.token_hex(3)}"
    namespace.kubectl("create", "serviceaccount", name)
    account = f"--serviceaccount={namespace.name}:{name}"
    namespace.kubectl("create", "clusterrolebinding", name, "--clusterrole=cluster-admin", account)
    try:
        until_allowed(namespace, f"system:serviceaccount:{namespace.name}:{name}")
        yield Api(server(namespace), namespace.kubectl("create", "token", name, "--duration=1h").strip())
    finally:
        namespace.kubectl("delete", "clusterrolebinding", name)
        namespace.kubectl("delete", "serviceaccount", name, "--ignore-not-found")


def until_allowed(namespace: Namespace, user: str, seconds: float = 60) -> None:
    """Wait until this user may do everything: the API server reads of a new binding a little later than it takes it."""
    end = time.monotonic() + seconds
    while namespace.kubectl("auth", "can-i", "*", "*", "--all-namespaces", f"--as={user}", check=False).strip() != "yes":
        assert time.monotonic() < end, f"{user} has no rights"
        time.sleep(0.2)


def server(namespace: Namespace) -> str:
    """The URL of the API server."""
    return namespace.kubectl("config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}")


def violations(recorder: Recorder, name: str, end: End) -> list[str]:
    """What the invariants' checker says of one task and its pods; writes are not looked at, a cluster's audit log has no bodies."""
    uids = {one.uid for one in recorder.versions if one.plural == "agenttasks" and one.name == name}

    def of_it(one: Version) -> bool:
        return one.uid in uids or (one.plural == "pods" and owner(one.object) in uids)

    return check(History(versions=[one for one in recorder.versions if of_it(one)]), {name: end})


def story(recorder: Recorder, name: str) -> str:
    """The versions of a task and its pods in short, for a test that failed."""
    lines = []
    for one in recorder.versions:
        if name in one.name:
            status = one.object.get("status", {})
            lines.append(
                f"{one.kind} {one.plural}/{one.name} {status.get('phase')} {status.get('reason')} {json.dumps(status.get('steps'))}"
            )
    return "\n".join(lines)
