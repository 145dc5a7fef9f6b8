"""`with Enforcer(...)`: as long as it lasts, the node enforces NetworkPolicies.

Pods that no policy is about go on as before, but for one thing: a connection to a Service that has no pods is not refused at once then,
it times out, since kube-router accepts their packets before kube-proxy's rules see them.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.policies import rules

ROOT = Path(__file__).parents[2]
_IN_FORCE = "sync iptables took"
_START_SECONDS = 180.0
_COVER_SECONDS = 180.0


class Enforcer:
    """kube-router as a process of this host, which is the cluster's only node.

    Args:
        program: kube-router.
        folder: for its log.
        kubeconfig: of somebody who may read pods, namespaces, nodes and policies.
        node: the name that the cluster has for this host.
    """

    def __init__(self, program: Path, folder: Path, *, kubeconfig: str, node: str) -> None:
        self._log = folder / "kube-router.log"
        self._arguments = [str(program), kubeconfig, node, str(self._log)]

    def __enter__(self) -> Self:
        self._others = _others()
        command = [sys.executable, "-m", "tests.policies.supervisor", *self._arguments]
        # a session of its own: Ctrl-C must not end it before it has cleaned up
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=dict(os.environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            assert self._process.stdout is not None
            assert self._process.stdout.readline() == "started\n", f"the supervisor exited {self._process.wait()}"
            self._until(lambda: _IN_FORCE in self._log.read_text(), seconds=_START_SECONDS, what="enforce anything")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        status = self._end()
        left = [*rules.own_chains(rules.saved()), *rules.own_sets()]
        assert (status, left, self._others - _others()) == (0, [], set()), self._log.read_text()[-3000:]

    def covers(self, namespace: str, pod: str) -> None:
        """Wait until the node looks at every packet from and to that pod: this begins a moment after it has its address."""
        rule = f"traffic from POD name:{pod} namespace: {namespace} "
        self._until(lambda: rule in rules.saved(), seconds=_COVER_SECONDS, what=f"look at the pod {pod} of {namespace}")

    def _until(self, holds: Callable[[], bool], *, seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not holds():
            if self._process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"kube-router does not {what} after {seconds} s: {self._log.read_text()[-3000:]}")
            time.sleep(0.1)

    def _end(self) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        return self._process.wait(180)


def _others() -> set[str]:
    """The chains of kube-proxy, the kubelet and whoever else filters here."""
    table = rules.saved()
    return set(rules.chains(table)) - set(rules.own_chains(table))
