"""Attempts of one task as processes before a gateway over HTTPS: killed, and gone on with by the next pod, wherever files were."""

import base64
import json
import re
import shutil
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from tests.fakes.gateway_program import Replica
from tests.fakes.gateway_program import in_thread as in_controller
from tests.fakes.gateway_server import TOKEN, FakeGateway, in_thread, refusal
from tests.fakes.seen import UID

from agenttask.api.checkpoint import decode
from agenttask.api.document import GatewayDocument
from agenttask.api.gateway import RefusalReason
from agenttask.api.reasons import Reason
from agenttask.controller.gateway.record_body import record_name

SHORT = """
import sys
import msgspec
from agenttask.runner import main
from agenttask.runner.gateway import link, live_reports

live_reports.FIRST_REPORT_SECONDS = 600.0
link.GatewayLink.pace = msgspec.structs.replace(link.PACE, quiet=600.0)
sys.exit(main.main())
"""
"""The runner, for which a task is short that ends within ten minutes: two seconds are over soon on a slow machine."""


class Cluster:
    """A gateway, and a pod for each attempt."""

    def __init__(self, pod: Any, gateway: FakeGateway, document: GatewayDocument) -> None:
        self.pod = pod
        self.gateway = gateway
        self.document = document

    def start(
        self,
        *steps: dict[str, Any],
        attempt: int = 1,
        variables: dict[str, str] | None = None,
        program: Sequence[str] = ("-m", "agenttask.runner.main"),
        **spec: Any,
    ) -> None:
        body = {
            "version": 2,
            "task": {"name": "demo", "namespace": "n", "uid": "u"},
            "attempt": attempt,
            "spec": {"steps": steps, **spec},
            "gateway": {"url": self.document.url, "ca": self.document.ca},
        }
        self.pod.start(raw=json.dumps(body), variables={"AGENTTASK_GATEWAY_TOKEN": TOKEN, **(variables or {})}, program=program)

    def kept(self) -> list[str]:
        return [] if self.gateway.checkpoint is None else [step.name for step in decode(self.gateway.checkpoint).steps]

    def kept_items(self) -> list[int]:
        return [] if self.gateway.checkpoint is None else [item.index for item in decode(self.gateway.checkpoint).items]

    def lose_workspace(self) -> None:
        shutil.rmtree(self.pod.root / "workspace")
        (self.pod.root / "workspace").mkdir()

    def counted(self) -> list[str]:
        found: list[str] = (self.pod.root / "count").read_text().split()
        return found

    def asked(self) -> list[str]:
        return [line.partition(" ")[2] for line in self.gateway.asked]


@pytest.fixture
def cluster(pod: Any) -> Iterator[Cluster]:
    gateway = FakeGateway()
    with in_thread(gateway) as document:
        yield Cluster(pod, gateway, document)


def shell(name: str, script: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "exec": {"command": ["sh", "-c", script]}, **fields}


def four_steps(cluster: Cluster, **second: Any) -> list[dict[str, Any]]:
    root = cluster.pod.root
    return [
        {"name": "one", "read": {"paths": ["/inputs/in.txt"]}},
        shell("two", f"echo two >> {root}/count; echo 'by two, attempt {{{{ attempt }}}}' > made.txt", **second),
        shell("three", f"echo three >> {root}/count; {cluster.pod.waits}"),
        shell("four", "cat made.txt; echo '{{ steps.one.text }}, attempt {{ attempt }}'"),
    ]


@pytest.mark.parametrize(
    ("second", "spec", "again"),
    [
        pytest.param({"keepFiles": ["*.txt"]}, {}, False, id="emptyDir-with-keepFiles"),
        pytest.param({}, {}, True, id="emptyDir-without-keepFiles"),
        pytest.param({}, {"workspace": {"persistentVolumeClaim": {"claimName": "work"}}}, False, id="claim"),
    ],
)
def test_after_a_kill_step_four_reads_what_step_two_wrote(
    cluster: Cluster, second: dict[str, Any], spec: dict[str, Any], *, again: bool
) -> None:
    pod = cluster.pod
    (pod.root / "inputs" / "in").mkdir()
    inputs = {"inputs": [{"name": "in", "configMap": {"name": "c"}}]}
    (pod.root / "inputs" / "in" / "in.txt").write_text("input")
    steps = four_steps(cluster, **second)
    steps[0]["read"]["paths"] = ["/inputs/in/in.txt"]
    cluster.start(*steps, **inputs, **spec)
    pod.until(lambda: pod.sleeping() and cluster.kept() == ["one", "two"])
    assert "GET /v1/checkpoint" not in cluster.asked()
    pod.signal(signal.SIGKILL)
    pod.end()
    if "workspace" not in spec:
        cluster.lose_workspace()
    (pod.root / "go").touch()
    cluster.gateway.asked.clear()
    cluster.start(*steps, attempt=2, **inputs, **spec)
    code, log = pod.end()
    made = 2 if again else 1
    assert (code, pod.report().output) == (0, f"by two, attempt {made}\ninput, attempt 2\n"), log
    assert cluster.counted() == ["two", "three", *(["two"] if again else []), "three"]
    assert (pod.report().attempt, cluster.asked()[0]) == (2, "GET /v1/checkpoint")
    assert "checkpoint: of attempt 1" in log
    assert "task demo: attempt 2 started" in log


def test_items_are_gone_on_with_one_by_one(cluster: Cluster) -> None:
    pod, root = cluster.pod, cluster.pod.root
    script = f"echo {{{{ item }}}} >> {root}/count; test {{{{ item }}}} != 3 || ({pod.waits}); echo done {{{{ item }}}}"
    step = shell("each", script, forEach="{{ [1, 2, 3, 4] }}")
    spec: dict[str, Any] = {"workspace": {"persistentVolumeClaim": {"claimName": "work"}}}
    cluster.start(step, **spec)
    pod.until(lambda: pod.sleeping() and cluster.kept_items() == [0, 1])
    pod.signal(signal.SIGKILL)
    pod.end()
    (root / "go").touch()
    cluster.start(step, attempt=2, **spec)
    code, log = pod.end()
    assert (code, pod.report().output, cluster.counted()) == (0, "done 1\n\ndone 2\n\ndone 3\n\ndone 4\n", ["1", "2", "3", "3", "4"]), log


def test_a_short_task_makes_no_call_at_all(cluster: Cluster) -> None:
    cluster.start(shell("one", "env"), shell("two", "echo two", needs=["one"]), program=("-c", SHORT))
    code, log = cluster.pod.end()
    assert (code, cluster.pod.report().output, cluster.gateway.asked) == (0, "two\n", []), log
    assert "gateway" not in log


def test_the_token_reaches_no_command(cluster: Cluster) -> None:
    cluster.start(shell("one", "env"))
    _, log = cluster.pod.end()
    assert "PATH=" in (cluster.pod.report().output or ""), log
    assert TOKEN not in (cluster.pod.report().output or "") + log


def test_sigterm_leaves_what_was_finished_within_the_grace(cluster: Cluster) -> None:
    pod, root = cluster.pod, cluster.pod.root
    late = shell("late", f"touch {root}/workspace/sleeping; trap 'exit 0' TERM; sleep 600", needs=["first"])
    cluster.start(shell("first", "sleep 2.5; echo first"), late, variables={"AGENTTASK_GRACE_SECONDS": "12"})
    pod.until(pod.sleeping)
    pod.signal(signal.SIGTERM)
    code, log = pod.end()
    assert (code, pod.report().error.reason, cluster.kept()) == (143, Reason.LOST, ["first"]), log
    assert "did not end in time" not in pod.report().error.message


def test_the_soft_deadline_leaves_what_was_finished(cluster: Cluster) -> None:
    pod = cluster.pod
    steps = [shell("long", "sleep 5; echo long", keepFiles=["x"]), shell("rest", "echo rest")]
    cluster.start(*steps, softDeadlineSeconds=4)  # after which `long` has begun, and has not ended
    code, log = pod.end()
    assert (code, pod.report().error.reason, cluster.kept()) == (1, Reason.SOFT_DEADLINE_REACHED, ["long"]), log
    cluster.start(*steps, attempt=2, softDeadlineSeconds=120)
    code, log = pod.end()
    assert (code, pod.report().output) == (0, "rest\n"), log


def test_a_large_output_and_a_long_run_are_told(cluster: Cluster) -> None:
    pod = cluster.pod
    cluster.start(shell("one", f"until test -e {pod.root}/go; do sleep 0.02; done; seq 1 20000"))

    def told() -> list[list[str]]:
        return [[step.code for step in report.steps] for report in cluster.gateway.reports]

    pod.until(lambda: ["R"] in told())  # the first may tell of a step that has not begun
    (pod.root / "go").touch()
    code, log = pod.end()
    assert (code, pod.report().output_stored, cluster.gateway.output) == (0, True, "".join(f"{n}\n" for n in range(1, 20001))), log
    assert ["R"] in told()
    assert cluster.gateway.tokens == {f"Bearer {TOKEN}"}


def test_a_fenced_attempt_ends_in_the_middle_of_its_step(cluster: Cluster) -> None:
    pod = cluster.pod
    cluster.gateway.always["/v1/report"] = refusal(403, RefusalReason.FENCED, "attempt 2 runs")
    cluster.start(shell("one", "sleep 600"), shell("two", "echo two"))
    code, log = pod.end()
    report = pod.report()
    assert (code, report.error.reason, [step.code for step in report.steps]) == (1, Reason.LOST, ["F", "K"]), log
    assert "attempt 2 runs" in log


def test_a_gateway_that_nobody_finds_costs_neither_a_task_nor_its_end(cluster: Cluster) -> None:
    pod = cluster.pod
    cluster.document = GatewayDocument(url="https://agenttask-gateway.invalid:8443", ca=cluster.document.ca)
    cluster.start(shell("one", "sleep 2.5; echo one"), shell("two", "echo two"))
    code, log = pod.end()
    assert (code, pod.report().output) == (0, "two\n"), log
    seconds = float(re.search(r"succeeded after ([0-9.]+) s\n", log[log.rindex("task demo: ") :])[1])
    assert seconds < 12, log  # a last save would be tried for ten


def test_without_a_token_the_log_says_so_and_the_task_runs(cluster: Cluster) -> None:
    cluster.start(shell("one", "echo one"), variables={"AGENTTASK_GATEWAY_TOKEN": ""})
    code, log = cluster.pod.end()
    assert (code, cluster.pod.report().output) == (0, "one\n"), log
    assert "gateway: not used: the variable AGENTTASK_GATEWAY_TOKEN holds no token" in log


def test_the_controllers_own_gateway_carries_a_task_over_a_kill(pod: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    replica = Replica()
    with in_controller(replica, tmp_path_factory.mktemp("secret")) as document:
        cluster = Cluster(pod, FakeGateway(), document)
        (pod.root / "inputs" / "in.txt").write_text("input")

        def record() -> dict[str, Any]:
            return replica.counter.store.find("agenttaskrecords", "agents", record_name("review", UID)) or {}

        def kept() -> list[str]:
            stored = record().get("checkpoint")
            return [] if stored is None else [step.name for step in decode(base64.b64decode(stored)).steps]

        steps = four_steps(cluster, keepFiles=["*.txt"])
        steps[0] = {"name": "one", "write": {"path": "x", "content": "input"}, "keepFiles": ["x"]}
        steps[3]["exec"]["command"][2] += "; seq 1 20000"
        cluster.start(*steps, variables={"AGENTTASK_GATEWAY_TOKEN": replica.token(1)})
        pod.until(lambda: pod.sleeping() and kept() == ["one", "two"])
        pod.signal(signal.SIGKILL)
        pod.end()
        cluster.lose_workspace()
        (pod.root / "go").touch()
        replica.now_runs(2)
        cluster.start(*steps, attempt=2, variables={"AGENTTASK_GATEWAY_TOKEN": replica.token(2)})
        code, log = pod.end()
        assert (code, pod.report().output_stored, cluster.counted()) == (0, True, ["two", "three", "three"]), log
        assert record()["output"].startswith("by two, attempt 1\n")
        assert (record()["output"].endswith("20000\n"), record()["attempt"]) == (True, 2)
