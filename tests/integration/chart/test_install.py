"""Install, upgrade and uninstall on a real cluster, and what the rights amount to there.

The controller's image need not exist: nothing here waits for its pod.
"""

import base64
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.fakes.kubectl import Kubectl, find, unreachable

pytestmark = pytest.mark.cluster

RELEASE = "c"
NO_PULL = ("--set", "images.pullPolicy=Never")
NAMESPACE = f"chart-test-{secrets.token_hex(4)}"
"""Of this run alone: the one before may still be going."""
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:c-agenttask-operator"
CRDS = ("agenttasks.agenttask.dev", "agentmodels.agenttask.dev", "agentqueues.agenttask.dev", "agenttaskrecords.agenttask.dev")
TASK = {
    "apiVersion": "agenttask.dev/v1alpha1",
    "kind": "AgentTask",
    "metadata": {"name": "kept"},
    "spec": {"steps": [{"name": "hello", "exec": {"command": ["echo", "hello"]}}]},
}


@pytest.fixture(scope="module")
def kubectl() -> Iterator[Kubectl]:
    """kubectl in a namespace that admits restricted pods only."""
    program = find("kubectl")
    reason = unreachable(program)
    if program is None or reason is not None:
        pytest.skip(reason or "no kubectl")
    kubectl = Kubectl(program, NAMESPACE)
    kubectl.must("create", "namespace", kubectl.namespace)
    kubectl.must("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted", "--overwrite")
    yield kubectl
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")


@pytest.fixture(scope="module")
def released(kubectl: Kubectl, helm: Any, chart: Path) -> Iterator[Kubectl]:
    """The chart, installed; the CRDs go back to whom they belonged to, for others use them."""
    before = [_crd(kubectl, crd) for crd in CRDS if kubectl("get", "crd", crd).returncode == 0]
    take = ("--take-ownership", "--force-conflicts")
    done = helm("install", RELEASE, str(chart), "--namespace", kubectl.namespace, *take, *NO_PULL)
    assert done.returncode == 0, done.stderr
    until(lambda: may(kubectl, "create pods", ACCOUNT))  # by a Role
    until(lambda: may(kubectl, "list nodes", ACCOUNT))  # by a ClusterRole
    yield kubectl
    helm("uninstall", RELEASE, "--namespace", kubectl.namespace, "--ignore-not-found")
    for crd in before:
        # As Helm's own field manager: an owner that it does not know would stand in the way of its next install.
        kubectl.must("apply", "--server-side", "--field-manager=helm", "--force-conflicts", "-f", "-", stdin=crd)


def until(holds: Callable[[], object], seconds: float = 120) -> None:
    """Wait for what the cluster does in its own time: rights, aggregated roles and pods follow from what was applied."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.1)


def may(kubectl: Kubectl, what: str, account: str) -> bool:
    """Whether the server lets an account do this."""
    return kubectl("auth", "can-i", *what.split(), f"--as={account}").stdout.strip() == "yes"


def _crd(kubectl: Kubectl, name: str) -> dict[str, Any]:
    """A CRD as it could be applied again."""
    crd = json.loads(kubectl.must("get", "crd", name, "-o", "json"))
    labels, annotations = (crd["metadata"].get(key, {}) for key in ("labels", "annotations"))
    annotations.pop("kubectl.kubernetes.io/last-applied-configuration", None)
    metadata = {"name": name, "labels": labels, "annotations": annotations}
    return {"apiVersion": crd["apiVersion"], "kind": crd["kind"], "metadata": metadata, "spec": crd["spec"]}


@pytest.mark.parametrize(
    ("verb", "resource", "may"),
    [
        ("list", "agenttasks.agenttask.dev", "yes"),
        ("watch", "agentmodels.agenttask.dev", "yes"),
        ("get", "agentmodels.agenttask.dev", "no"),
        ("patch", "agenttasks.agenttask.dev/status", "yes"),
        ("watch", "agentqueues.agenttask.dev", "yes"),
        ("patch", "agentqueues.agenttask.dev/status", "yes"),
        ("patch", "agentqueues.agenttask.dev", "no"),
        ("create", "agenttaskrecords.agenttask.dev", "yes"),
        ("patch", "agenttaskrecords.agenttask.dev", "yes"),
        ("list", "agenttaskrecords.agenttask.dev", "no"),
        ("delete", "agenttaskrecords.agenttask.dev", "no"),
        ("create", "pods", "yes"),
        ("delete", "pods", "yes"),
        ("list", "events", "yes"),
        ("watch", "events", "no"),
        ("list", "configmaps", "yes"),
        ("list", "persistentvolumeclaims", "yes"),
        ("patch", "agenttasks.agenttask.dev", "no"),
        ("delete", "agenttasks.agenttask.dev", "yes"),
        ("patch", "agentmodels.agenttask.dev", "no"),
        ("get", "secrets", "no"),
        ("list", "secrets", "no"),
        ("create", "pods/exec", "no"),
        ("patch", "pods", "no"),
        ("create", "configmaps", "no"),
        ("create", "serviceaccounts/token", "no"),
    ],
)
def test_the_controller_may_do_its_work_and_no_more(released: Kubectl, verb: str, resource: str, may: str) -> None:
    name, _, part = resource.partition("/")
    assert released("auth", "can-i", verb, name, f"--subresource={part}", f"--as={ACCOUNT}").stdout.strip() == may


def test_the_controller_sees_nodes_but_no_other_namespace(released: Kubectl) -> None:
    for words, may in (("list nodes", "yes"), ("patch nodes", "no"), ("list pods -n default", "no"), ("list agenttasks -A", "no")):
        assert released("auth", "can-i", *words.split(), f"--as={ACCOUNT}").stdout.strip() == may, words


def test_the_built_in_roles_know_the_kinds(released: Kubectl) -> None:
    def known() -> bool:
        rules = json.loads(released.must("get", "clusterrole", "view", "-o", "json"))["rules"]
        return any("agenttask.dev" in rule.get("apiGroups", []) for rule in rules)

    until(known)


def test_a_restricted_namespace_admits_the_pods(released: Kubectl, helm: Any) -> None:
    """The controller's pod is there, and the test's pod would be: the server says so without making it."""
    until(lambda: released.must("get", "pods", "-l", "app.kubernetes.io/component=controller", "-o", "name"))
    (pod,) = (each for each in _hooks(helm, released.namespace) if each["kind"] == "Pod")
    # The account is a hook of its own, made before the pod; the server wants to see it first.
    pod["spec"]["serviceAccountName"] = "c-agenttask-operator"
    assert released("create", "--dry-run=server", "-f", "-", stdin=pod).stderr == ""


def _hooks(helm: Any, namespace: str) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(helm("get", "hooks", RELEASE, "--namespace", namespace).stdout) if each]


def _run(kubectl: Kubectl, chart: Path, folder: Path, account: str, seconds: int) -> subprocess.Popen[str]:
    """The script of `helm test`, outside of a pod but with the rights of an account."""
    config = json.loads(kubectl.must("config", "view", "--raw", "--flatten", "--minify", "-o", "json"))["clusters"][0]["cluster"]
    (folder / "ca.crt").write_bytes(base64.b64decode(config["certificate-authority-data"]))
    (folder / "token").write_text(kubectl.must("create", "token", account))
    environment = {**os.environ, "ACCOUNT_DIR": str(folder), "API_SERVER": config["server"]}
    return subprocess.Popen(
        [sys.executable, str(chart / "files" / "run_a_task.py"), kubectl.namespace, str(seconds)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        pytest.param({"phase": "Succeeded", "output": "hello from helm test"}, 0, "output: hello from helm test", id="succeeds"),
        pytest.param({"phase": "Succeeded", "output": "other"}, 1, "the task stays for you to look at", id="other output"),
        pytest.param(
            {"phase": "Failed", "reason": "ImageError", "message": "no such image"}, 1, "Failed ImageError - no such image", id="fails"
        ),
        pytest.param({"phase": "Queued", "reason": "ImagePull"}, 1, "not finished after 3 s", id="never ends"),
    ],
)
def test_helm_test_tells_what_became_of_its_task(
    released: Kubectl, helm: Any, chart: Path, tmp_path: Path, status: dict[str, str], code: int, said: str
) -> None:
    for each in _hooks(helm, released.namespace):
        if each["kind"] != "Pod":
            released.must("apply", "-f", "-", stdin=each)
    tester = "c-agenttask-operator-test"
    until(lambda: may(released, "create agenttasks.agenttask.dev", f"system:serviceaccount:{NAMESPACE}:{tester}"))
    seconds = 3 if status["phase"] == "Queued" else 300  # the others are over when their status is written, however long that takes
    with _run(released, chart, tmp_path, tester, seconds) as running:
        assert running.stdout is not None
        task = running.stdout.readline().split("/")[-1].strip()
        released.must("patch", "at", task, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
        printed = running.stdout.read()
    assert (running.returncode, said in printed) == (code, True), printed
    assert (released("get", "at", task).returncode == 0) == (code != 0)


def test_helm_test_says_when_it_may_not_make_a_task(released: Kubectl, chart: Path, tmp_path: Path) -> None:
    with _run(released, chart, tmp_path, "default", 3) as running:
        assert running.stdout is not None
        printed = running.stdout.read()
    assert running.returncode == 1
    assert f"cannot make an AgentTask in namespace {NAMESPACE}: HTTP Error 403" in printed


def test_upgrade_and_uninstall_keep_every_task(released: Kubectl, helm: Any, chart: Path) -> None:
    """Last in this file: it ends with the release gone."""
    namespace = released.namespace
    released.must("create", "-f", "-", stdin=TASK)
    kept = released.must("get", "secret", "c-agenttask-operator-gateway", "-o", "jsonpath={.data}")
    upgraded = helm("upgrade", RELEASE, str(chart), "--namespace", namespace, "--set", "logging.level=debug", *NO_PULL)
    assert upgraded.returncode == 0, upgraded.stderr
    assert released.must("get", "secret", "c-agenttask-operator-gateway", "-o", "jsonpath={.data}") == kept
    assert "level: debug" in released.must("get", "configmap", "c-agenttask-operator-config", "-o", "yaml")

    for crd in CRDS:
        assert _crd(released, crd)["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    uninstalled = helm("uninstall", RELEASE, "--namespace", namespace)
    assert uninstalled.returncode == 0, uninstalled.stderr
    assert "were kept due to the resource policy" in uninstalled.stdout + uninstalled.stderr
    assert released.must("get", "at", "kept", "-o", "name").strip() == "agenttask.agenttask.dev/kept"
    left = released.must("get", "deployments,configmaps,roles", "-l", "app.kubernetes.io/instance=c", "-o", "name").split()
    assert [name for name in left if not name.endswith("-test")] == []

    again = helm("install", RELEASE, str(chart), "--namespace", namespace, *NO_PULL)
    assert again.returncode == 0, again.stderr
    assert released.must("get", "at", "kept", "-o", "name").strip() == "agenttask.agenttask.dev/kept"
