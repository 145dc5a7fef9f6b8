"""What the chart makes: names, rights, pods, CRDs and configuration."""

import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

CASES = ["", "everything", "cluster-scope", "least-rights"]


@pytest.fixture(scope="module", params=CASES, ids=[case or "defaults" for case in CASES])
def objects(request: pytest.FixtureRequest, render: Any, chart: Path) -> list[dict[str, Any]]:
    """All objects of each case in ci/, hooks included."""
    return render(*(["-f", str(chart / "ci" / f"{request.param}-values.yaml")] if request.param else []))


def _of(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in objects if each["kind"] == kind]


def _controller(objects: list[dict[str, Any]]) -> dict[str, Any]:
    (deployment,) = _of(objects, "Deployment")
    return deployment["spec"]["template"]["spec"]


def _config(objects: list[dict[str, Any]]) -> dict[str, Any]:
    (config,) = _of(objects, "ConfigMap")
    return yaml.safe_load(config["data"]["config.yaml"])


def _rules(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [rule for each in objects if each["kind"] in ("Role", "ClusterRole") for rule in each["rules"]]


def test_no_right_is_a_wildcard_or_reaches_secrets(objects: list[dict[str, Any]]) -> None:
    for rule in _rules(objects):
        for key in ("apiGroups", "resources", "verbs"):
            assert not any("*" in value for value in rule.get(key, [])), rule
        assert not {"secrets", "pods/exec", "pods/log", "serviceaccounts/token", "roles", "rolebindings"} & set(rule["resources"])
        assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])
        assert "nonResourceURLs" not in rule


def test_the_controller_has_these_rights_and_no_others(render: Any) -> None:
    objects = [each for each in render() if "helm.sh/hook" not in each["metadata"].get("annotations", {})]
    role, leader = sorted(_of(objects, "Role"), key=lambda one: str(one["metadata"]["name"]).endswith("-leader"))
    assert [(rule["resources"], rule.get("resourceNames"), rule["verbs"]) for rule in leader["rules"]] == [
        (["leases"], None, ["create"]),
        (["leases"], ["r-agenttask-operator"], ["get", "patch"]),
    ]
    assert [(rule["resources"], rule["verbs"]) for rule in role["rules"]] == [
        (["agenttasks"], ["get", "list", "watch"]),
        (["agentmodels", "agentqueues"], ["list", "watch"]),
        (["agenttasks/status", "agentqueues/status"], ["patch"]),
        (["agenttasks"], ["delete"]),
        (["agenttaskrecords"], ["get", "create", "patch"]),
        (["pods"], ["get", "list", "watch", "create", "delete"]),
        (["events"], ["list"]),
        (["configmaps", "persistentvolumeclaims"], ["list", "watch"]),
    ]
    (binding,) = _of(objects, "ClusterRoleBinding")
    (nodes,) = (each for each in _of(objects, "ClusterRole") if each["metadata"]["name"] == binding["roleRef"]["name"])
    assert [(rule["resources"], rule["verbs"]) for rule in nodes["rules"]] == [(["nodes"], ["list", "watch"])]


def test_a_role_stands_in_each_watched_namespace(render: Any) -> None:
    objects = render("--set", "watchNamespaces={a,b}")
    roles, bindings = (
        [each for each in _of(objects, kind) if not each["metadata"]["name"].endswith(("-test", "-leader"))]
        for kind in ("Role", "RoleBinding")
    )
    assert {each["metadata"]["namespace"] for each in roles} == {"a", "b"}
    assert {each["metadata"]["namespace"] for each in bindings} == {"a", "b"}
    assert {each["subjects"][0]["namespace"] for each in bindings} == {"ns"}
    assert _config(objects)["namespaces"] == ["a", "b"]


def test_the_release_namespace_is_watched_by_default(render: Any) -> None:
    assert _config(render(namespace="here"))["namespaces"] == ["here"]


def test_cluster_scope_has_one_cluster_role_and_watches_all(render: Any) -> None:
    objects = render("--set", "rbac.scope=cluster")
    assert [each["metadata"]["name"] for each in _of(objects, "Role")] == [
        "r-agenttask-operator-leader",
        "ns-r-agenttask-operator-test",
    ]
    assert {each["metadata"]["name"] for each in _of(objects, "ClusterRoleBinding")} == {
        "ns-r-agenttask-operator",
        "ns-r-agenttask-operator-nodes",
    }
    assert _config(objects)["namespaces"] == []


def test_least_rights_make_nothing_cluster_wide(render: Any, chart: Path) -> None:
    objects = render("-f", str(chart / "ci" / "least-rights-values.yaml"))
    kinds = {"ConfigMap", "Deployment", "Pod", "PodDisruptionBudget", "Role", "RoleBinding", "ServiceAccount"}
    assert {each["kind"] for each in objects} == kinds
    assert _controller(objects)["serviceAccountName"] == "given"
    assert _config(objects)["nodes"] is False


def test_the_kinds_join_the_roles_of_the_cluster(render: Any) -> None:
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    roles = {
        label.removeprefix(prefix): {resource: rule["verbs"] for rule in role["rules"] for resource in rule["resources"]}
        for role in _of(render(), "ClusterRole")
        for label in role["metadata"]["labels"]
        if label.startswith(prefix)
    }
    read, write = ["get", "list", "watch"], ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
    assert roles == {
        "admin": {"agentmodels": write, "agentqueues": write, "agenttaskrecords": ["delete", "deletecollection"], "agenttasks": write},
        "edit": {"agenttasks": write},
        "view": {"agentmodels": read, "agentqueues": read, "agenttaskrecords": read, "agenttasks": read},
    }


def test_every_pod_is_restricted(objects: list[dict[str, Any]]) -> None:
    pods = [_controller(objects), *(each["spec"] for each in _of(objects, "Pod"))]
    assert len(pods) == 2
    for pod in pods:
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 10000
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert pod.get("hostUsers") is not True
        assert {next(iter(set(volume) - {"name"})) for volume in pod["volumes"]} <= {"configMap", "emptyDir", "projected", "secret"}
        (token,) = (volume["projected"] for volume in pod["volumes"] if volume["name"] == "token")
        assert token["sources"][0]["serviceAccountToken"]["expirationSeconds"] == 3600
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


def test_replicas_share_one_lease_and_are_never_all_evicted(objects: list[dict[str, Any]]) -> None:
    (deployment,) = _of(objects, "Deployment")
    (budget,) = _of(objects, "PodDisruptionBudget")
    assert deployment["spec"]["replicas"] == 2
    assert deployment["spec"]["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]
    assert _config(objects)["leaderElection"] == {
        "enabled": True,
        "leaseName": deployment["metadata"]["name"],
        "namespace": deployment["metadata"]["namespace"],
        "leaseSeconds": 15,
        "renewSeconds": 10,
    }


def test_a_single_replica_may_be_evicted(render: Any) -> None:
    objects = render("--set", "controller.replicas=1")
    assert _of(objects, "PodDisruptionBudget") == []
    assert "topologySpreadConstraints" not in _controller(objects)
    assert _config(objects)["leaderElection"]["enabled"] is True


def test_names_and_labels_are_valid_and_standard(objects: list[dict[str, Any]]) -> None:
    for each in objects:
        labels = each["metadata"]["labels"]
        assert {f"app.kubernetes.io/{key}" for key in ("name", "instance", "version", "part-of", "managed-by")} <= set(labels)
        assert all(len(str(value)) <= 63 for value in labels.values())


@pytest.mark.parametrize("release", ["r" * 53, "agenttask-operator", "a"])
def test_names_stay_within_63_characters(render: Any, release: str) -> None:
    long = "n" * 63
    for each in render("--set", f"nameOverride={long}", release=release, namespace=long):
        limit = 253 if each["kind"] in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition") else 63
        assert len(each["metadata"]["name"]) <= limit
        assert all(len(str(value)) <= 63 for value in each["metadata"]["labels"].values())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(("one", "ns"), ("two", "ns"), id="same namespace"),
        pytest.param(("one", "a"), ("one", "b"), id="same name"),
        pytest.param(("x" * 52 + "a", "ns"), ("x" * 52 + "b", "ns"), id="names that differ at their end"),
    ],
)
def test_two_releases_do_not_collide(render: Any, first: tuple[str, str], second: tuple[str, str]) -> None:
    """Both watch one namespace; the second leaves the CRDs to the first."""
    made = [
        {
            (each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
            for each in render("--set", "crds.enabled=false,watchNamespaces={shared}", release=release, namespace=namespace)
        }
        for release, namespace in (first, second)
    ]
    assert made[0] & made[1] == set()


@pytest.mark.parametrize("keep", [True, False])
def test_crds_are_those_of_the_repository(render: Any, chart: Path, keep: bool) -> None:
    sources = {path.stem: yaml.safe_load(path.read_text()) for path in (chart.parents[1] / "crds").glob("*.yaml")}
    made = _of(render("--set", f"crds.keep={str(keep).lower()}"), "CustomResourceDefinition")
    assert {each["spec"]["names"]["plural"]: each["spec"] for each in made} == {name: each["spec"] for name, each in sources.items()}
    for each in made:
        assert each["metadata"].get("annotations", {}) == ({"helm.sh/resource-policy": "keep"} if keep else {})


def test_a_package_holds_the_crds_themselves(helm: Any, chart: Path, tmp_path: Path) -> None:
    done = helm("package", str(chart), "--destination", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.iterdir()
    with tarfile.open(archive) as tar:
        for source in (chart.parents[1] / "crds").iterdir():
            packed = tar.extractfile(f"{chart.name}/files/crds/{source.name}")
            assert packed is not None
            assert packed.read() == source.read_bytes()
        assert not [name for name in tar.getnames() if "/ci/" in name]


def test_an_image_is_registry_repository_and_tag_or_digest(render: Any, chart: Path) -> None:
    assert _controller(render())["containers"][0]["image"] == "localhost/agenttask/controller:0.1.0"
    objects = render("-f", str(chart / "ci" / "everything-values.yaml"))
    assert _controller(objects)["containers"][0]["image"] == f"registry.example.com/mirror/agenttask/controller@sha256:{'0' * 64}"
    assert _controller(objects)["imagePullSecrets"] == [{"name": "pull"}]
    images = _config(objects)["images"]
    assert images["runner"] == "registry.example.com/mirror/agenttask/runner:1.2.3"
    assert images["runnerTorch"] == "registry.example.com/mirror/agenttask/runner-torch:0.1.0"


def test_another_configuration_rolls_the_controller(render: Any) -> None:
    def checksum(*args: str) -> str:
        (deployment,) = _of(render(*args), "Deployment")
        return deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"]

    assert checksum() == checksum()
    assert checksum() != checksum("--set", "logging.level=debug")


def test_labels_of_the_user_do_not_break_the_selector(render: Any) -> None:
    (deployment,) = _of(render("--set", r"controller.podLabels.app\.kubernetes\.io/instance=x"), "Deployment")
    assert deployment["spec"]["selector"]["matchLabels"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_the_script_of_helm_test_reaches_its_pod_whole(render: Any, chart: Path) -> None:
    (pod,) = _of(render("--set", "watchNamespaces={jobs}"), "Pod")
    script, namespace, seconds = pod["spec"]["containers"][0]["args"]
    assert script.strip() == (chart / "files" / "run_a_task.py").read_text().strip()
    assert (namespace, seconds) == ("jobs", "120")
    done = subprocess.run([sys.executable, "-c", f"compile({script!r}, 'x', 'exec')"], check=False)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("settings", "warning"),
    [
        pytest.param("secretGlobs={*}", 'secretGlobs has "*"', id="secrets"),
        pytest.param("credentialImages={*}", 'credentialImages has "*"', id="images"),
        pytest.param("rbac.scope=cluster", "rbac.scope is cluster", id="scope"),
        pytest.param("rbac.nodes=false", "rbac.nodes is false", id="nodes"),
    ],
)
def test_notes_tell_what_to_do_next_and_warn_of_risky_values(helm: Any, chart: Path, settings: str, warning: str) -> None:
    plain = helm("install", "r", str(chart), "--dry-run=client", "--namespace", "ns").stdout
    risky = helm("install", "r", str(chart), "--dry-run=client", "--namespace", "ns", "--set", settings).stdout
    assert "kubectl -n ns wait --for=condition=Complete agenttask/hello" in plain
    assert "helm -n ns test r\n" in plain
    assert warning not in plain
    assert warning in risky
