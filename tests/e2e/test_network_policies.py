"""Under policies that deny by default and are enforced, everything works that docs/gateway.md says, by its policies and no others.

The node's filter takes up a pod a moment after it has an address, so each task waits until it is held before it goes on, and each
request below goes over a connection made after that.
"""

import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from tests.conftest import cluster_required
from tests.e2e.cluster import Namespace, step_phases
from tests.e2e.conftest import endpoint_objects, install, model, uninstall, until_kept
from tests.fakes.otlp_sink import OtlpSink
from tests.go_install import NoGo
from tests.policies.enforcer import Enforcer
from tests.policies.install import kube_router

pytestmark = pytest.mark.cluster
PAGE = Path(__file__).parents[2] / "docs" / "gateway.md"
CONTROLLERS = "app.kubernetes.io/component=controller"
RUNNERS = {"app.kubernetes.io/managed-by": "agenttask"}
HEALTH, GATEWAY, OPEN = 8080, 8443, 8000
REACH = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).close()
except OSError as error:
    print("no:", error)
else:
    print("yes")
"""
UNTIL_HELD = """
import socket, sys, time
end = time.monotonic() + 60
while time.monotonic() < end:
    try:
        socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).close()
    except OSError as error:
        sys.exit(print("held:", error))
    time.sleep(0.2)
sys.exit("reaches it all the time")
"""
ASK_API = """
import ssl, urllib.request
account = "/var/run/secrets/kubernetes.io/serviceaccount/"
headers = {"Authorization": "Bearer " + open(account + "token").read()}
request = urllib.request.Request("https://kubernetes.default.svc/version", headers=headers)
print(urllib.request.urlopen(request, timeout=10, context=ssl.create_default_context(cafile=account + "ca.crt")).status)
"""


def on_page(name: str, *, release: str = "") -> dict[str, Any]:
    """The policy of that name as the page has it; its example release is in the namespace `agents`."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    found = [each for block in blocks for each in yaml.safe_load_all(block) if each["metadata"]["name"] == name]
    assert len(found) == 1, name
    policy: dict[str, Any] = yaml.safe_load(yaml.safe_dump(found[0]).replace(": agents\n", f": {release}\n"))
    return policy


def serving_pod(name: str, image: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """A pod that listens, and that a test may run Python in."""
    command = ["python3", "-m", "http.server", str(OPEN), "--directory", "/tmp"]
    container = {
        "name": "serving",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "readinessProbe": {"tcpSocket": {"port": OPEN}, "periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 30},
    }
    spec = {"terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": dict(labels)}, "spec": spec}


def anywhere(app: str) -> dict[str, Any]:
    """A policy that lets pods of this name out everywhere."""
    spec = {"podSelector": {"matchLabels": {"app": app}}, "policyTypes": ["Egress"], "egress": [{}]}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": app}, "spec": spec}


class Denied(msgspec.Struct, frozen=True, kw_only=True):
    """An installation where both watched namespaces deny by default, and a namespace beside it that does not."""

    release: Namespace
    tasks: Namespace
    elsewhere: Namespace
    enforcer: Enforcer
    neighbour: str
    sink: OtlpSink

    def controllers(self) -> list[str]:
        """Addresses of the controller's pods, each of them under its policies."""
        pods = self.release.pods(CONTROLLERS)
        for pod in pods:
            self.enforcer.covers(self.release.name, pod["metadata"]["name"])
        return [pod["status"]["podIP"] for pod in pods]

    def step(self, name: str, command: str, **fields: Any) -> dict[str, Any]:
        """A step that waits until its pod cannot reach the neighbour, which nothing forbids but the default, then runs a command."""
        script = f"python3 -c '{UNTIL_HELD}' {self.neighbour} {OPEN} && {command}"
        return {"name": name, "exec": {"command": ["sh", "-c", script]}, **fields}


def task(name: str, *steps: dict[str, Any], output: str, **spec: Any) -> dict[str, Any]:
    whole = {"steps": list(steps), "output": output, **spec}
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": name}, "spec": whole}


def reaches(namespace: Namespace, pod: str, host: str, port: int) -> bool:
    """Does a pod get a connection?"""
    answer = namespace.kubectl("exec", pod, "--", "python3", "-c", REACH, host, str(port)).split(":")[0].strip()
    return {"yes": True, "no": False}[answer]


def records(namespace: Namespace, name: str) -> list[str]:
    """Names of the records of a task."""
    return namespace.kubectl("get", "atr", "-o", f'jsonpath={{.items[?(@.task=="{name}")].metadata.name}}').split()


@pytest.fixture(scope="module")
def enforcer(node_address: str, cluster_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enforcer]:
    """The node enforces policies; afterwards it has its own rules and no others, or this is an error."""
    if os.geteuid() != 0:
        pytest.skip("only root may change the node's packet filter")
    missing = [each for each in ("ipset", "iptables-save", "iptables-restore") if shutil.which(each) is None]
    if missing:
        pytest.skip(f"not in PATH: {', '.join(missing)}; `make cluster-up` installs them")
    try:
        program = kube_router(print)
    except NoGo as error:
        if cluster_required():
            raise
        pytest.skip(str(error))
    node = Namespace(name="default", environment=cluster_environment).kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
    folder = tmp_path_factory.mktemp("kube-router")
    with Enforcer(program, folder, kubeconfig=cluster_environment["KUBECONFIG"], node=node) as enforcer:
        yield enforcer


@pytest.fixture(scope="module")
def denied(enforcer: Enforcer, node_address: str, cluster_environment: dict[str, str], images: Mapping[str, str]) -> Iterator[Denied]:
    """Policies come first: the controllers have never known anything else."""
    name = f"denied-{secrets.token_hex(3)}"
    spaces = [Namespace(name=f"{name}{suffix}", environment=cluster_environment) for suffix in ("", "-tasks", "-elsewhere")]
    release, tasks, elsewhere = spaces
    try:
        for each in spaces:
            each.kubectl("create", "namespace", each.name)
        for each in (release, tasks):
            each.apply(on_page("default-deny"))
        with OtlpSink(host=node_address) as sink:
            structures = {"watchNamespaces": [release.name, tasks.name], "networkPolicies.enabled": True}
            install(release, images, structures=structures, **{"telemetry.otlpEndpoint": sink.endpoint})
            # The tasks' namespace has the page's policy instead of the chart's.
            tasks.kubectl("delete", "networkpolicy", f"{release.name}-agenttask-agenttask-operator-tasks")
            elsewhere.apply(serving_pod("neighbour", images["runner"], {"app": "neighbour", **RUNNERS}))
            release.apply(
                serving_pod("shut", images["runner"], {"app": "shut"}),
                serving_pod("stranger", images["runner"], {"app": "stranger"}),
                anywhere("stranger"),
            )
            tasks.apply(
                *endpoint_objects(images["runner"]),
                model("asked", {"client": "openai", "endpoint": "http://llm:8080/ok/v1", "model": "scripted"}),
            )
            for space, pod in ((elsewhere, "neighbour"), (release, "shut"), (release, "stranger"), (tasks, "llm")):
                space.kubectl("wait", "--for=condition=Ready", f"pod/{pod}", "--timeout=120s")
                enforcer.covers(space.name, pod)
            neighbour = elsewhere.pods("app=neighbour")[0]["status"]["podIP"]
            yield Denied(release=release, tasks=tasks, elsewhere=elsewhere, enforcer=enforcer, neighbour=neighbour, sink=sink)
    finally:
        uninstall(release)
        for each in (tasks, elsewhere):
            each.kubectl("delete", "namespace", each.name, "--wait=false", check=False)


def test_the_controller_reaches_the_api_server_and_a_pod_that_nothing_is_said_about_reaches_nobody(denied: Denied) -> None:
    api = denied.release.kubectl("exec", "shut", "--", "printenv", "KUBERNETES_SERVICE_HOST").strip()
    assert reaches(denied.release, "stranger", api, 443)
    assert not reaches(denied.release, "shut", api, 443)
    assert reaches(denied.elsewhere, "neighbour", denied.neighbour, OPEN)
    assert reaches(denied.release, "stranger", denied.neighbour, OPEN)
    assert not reaches(denied.release, "shut", denied.neighbour, OPEN)

    assert len(denied.controllers()) == 2
    for pod in denied.release.pods(CONTROLLERS):
        answer = denied.release.kubectl("exec", pod["metadata"]["name"], "--", "python3", "-c", ASK_API)
        assert answer.strip() == "200"
    command = ["helm", "test", "agenttask", "-n", denied.release.name, "--timeout=3m"]
    done = subprocess.run(command, env=denied.release.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nobody_but_runners_of_the_watched_namespaces_reaches_the_gateway(denied: Denied) -> None:
    """The port of the probes is open to all, so it is not for want of a way that they do not."""
    controllers = denied.controllers()
    ways = [(denied.release, "stranger"), (denied.elsewhere, "neighbour")]
    found = {(pod, port): {reaches(space, pod, each, port) for each in controllers} for space, pod in ways for port in (HEALTH, GATEWAY)}
    assert found == {
        ("stranger", HEALTH): {True},
        ("stranger", GATEWAY): {False},
        ("neighbour", HEALTH): {True},
        ("neighbour", GATEWAY): {False},
    }
    assert not any(reaches(denied.release, "shut", each, HEALTH) for each in controllers)


def test_a_task_without_a_way_to_the_gateway_leaves_nothing_there_and_with_the_policy_of_the_page_it_does(denied: Denied) -> None:
    space = denied.tasks
    # The runner's first report may go out before it is held, and its connection is used again for 15 s.
    alone = task("alone", denied.step("one", "sleep 20"), denied.step("two", "sleep 20; echo done"), output="{{ steps.two.text }}")
    space.apply(alone)
    status = space.ended("alone", seconds=300)
    log = space.kubectl("logs", status["podName"])
    assert (status["phase"], status["output"].splitlines()[-1]) == ("Succeeded", "done"), status
    assert records(space, "alone") == []
    assert "the gateway did not take" in log, log

    space.apply(on_page("agenttask-gateway", release=denied.release.name))
    watch_a_resume_and_a_large_output(denied, space)


def test_with_the_policies_of_the_chart_tasks_report_resume_hand_over_and_send_their_spans(denied: Denied) -> None:
    traces = watch_a_resume_and_a_large_output(denied, denied.release)
    wanted = {"RUN AgentTask", "invoke_agent"}  # the controller's and the runner's
    end = time.monotonic() + 60
    while not (seen := {each.name for each in denied.sink.wait_for(1) if each.trace_id in traces}) >= wanted:
        assert time.monotonic() < end, seen
        time.sleep(0.5)


def watch_a_resume_and_a_large_output(denied: Denied, space: Namespace) -> set[str]:
    """A task whose pod is lost after a step, and one with an output that only the gateway takes; their traces."""
    space.apply(
        task(
            "longer",
            denied.step("think", "sleep 3; echo thought > found; echo attempt {{ attempt }}", keepFiles=["found"]),
            denied.step("wait", "{ test {{ attempt }} = 2 || sleep 600; cat found; }"),
            output="{{ steps.think.text }}{{ steps.wait.text }}",
        ),
        task("large", denied.step("say", "head -c 500000 /dev/zero | tr '\\0' x"), output="{{ steps.say.text }}"),
    )
    shown = space.until("longer", lambda status: step_phases(status) == ["Succeeded", "Running"], seconds=180)
    assert shown["progress"] == "1/2"
    until_kept(space, ["longer"], ["think"])
    assert len(records(space, "longer")) == 1
    space.kubectl("delete", "pod", shown["podName"], "--force", "--grace-period=0")
    found = space.all_ended(["longer", "large"], seconds=180)

    longer, large = found["longer"], found["large"]
    assert (longer["phase"], longer["attempt"]) == ("Succeeded", 2), longer
    assert re.fullmatch(r"held: .*\nattempt 1\nheld: .*\nthought\n", longer["output"]), longer
    assert "steps taken over: 1" in space.kubectl("logs", longer["podName"])
    assert (large["phase"], large["outputRef"]["kind"]) == ("Succeeded", "AgentTaskRecord"), large
    assert space.kubectl("get", "atr", large["outputRef"]["name"], "-o", "jsonpath={.output}").endswith("\n" + "x" * 500000)
    return {longer["traceID"], large["traceID"]}


def test_a_model_is_out_of_reach_until_the_policies_of_the_page_let_tasks_to_it(denied: Denied) -> None:
    once = {"limit": 0, "maxInfrastructureRestarts": 0}
    ask = {"name": "ask", "chat": {"model": "asked", "prompt": "hello"}}
    denied.tasks.apply(task("before", denied.step("held", "true"), ask, output="{{ steps.ask.text }}", retry=once))
    before = denied.tasks.ended("before")
    assert before["phase"] == "Failed", before

    denied.tasks.apply(on_page("agenttask-gateway", release=denied.release.name), on_page("agenttask-models"), on_page("llm-from-tasks"))
    denied.tasks.apply(task("after", denied.step("held", "true"), ask, output="{{ steps.ask.text }}", retry=once))
    after = denied.tasks.ended("after")
    assert (after["phase"], "hello" in after["output"]) == ("Succeeded", True), after
