"""The rest of `spec.pod`, the workspace on a claim, and what a device class brings to the pod; and what of it is refused."""

import copy
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.seen import spec, task

from agenttask.api import constants as c
from agenttask.api import document
from agenttask.api.errors import AgentTaskError, PodRejected
from agenttask.api.pod_options import Toleration
from agenttask.api.task import AgentTaskSpec, DeviceStatus
from agenttask.controller.acceptance import PluginNames, refusal
from agenttask.controller.installation import Images, Installation
from agenttask.controller.pod import PodRequest, build
from agenttask.controller.pod_policy import tolerable
from agenttask.controller.verify import verify
from agenttask.domain.device import DeviceClass

SPOT = Toleration(key="spot", operator="Exists", effect="NoSchedule")
CLAIMS = DeviceClass(name="dra", kind="cuda", resource_claim_template="one-gpu", max_count=4, runtime_class_name="nvidia")
GPUS = DeviceClass(name="gpu", kind="cuda", resources={"nvidia.com/mig-1g.5gb": 1}, max_count=8)
OPEN = Installation(
    images=Images(runner="r:1", pull_secrets=("reg",)),
    device_classes=(CLAIMS, GPUS, DeviceClass(name="cpu")),
    secret_globs=("agents-*",),
    allowed_tolerations=(SPOT,),
    allowed_priority_classes=("low",),
    allowed_runtime_classes=("gvisor",),
    allowed_service_accounts=("agents",),
)
NAMES = PluginNames(
    step_kinds=frozenset({"read"}),
    threading=frozenset({"async"}),
    llm_clients=frozenset(),
    model_factories=frozenset(),
    device_strategies=frozenset({"auto"}),
)


def made(wanted: AgentTaskSpec, device: DeviceClass | None = None, installation: Installation = OPEN) -> dict[str, Any]:
    request = PodRequest(
        task=task(), spec=wanted, attempt=1, models={}, device=DeviceStatus(class_="cpu"), device_class=device, environment={}
    )
    body = build(request, installation)
    verify(body, installation)
    pod: dict[str, Any] = msgspec.json.decode(body)
    return pod


VOLUMES = [
    {"name": "a", "mountPath": "/data", "emptyDir": {"sizeLimit": "2Gi"}},
    {"name": "b", "mountPath": "/srv/b", "persistentVolumeClaim": {"claimName": "b"}},
    {"name": "c", "mountPath": "/srv/c", "persistentVolumeClaim": {"claimName": "c"}, "readOnly": True},
    {"name": "d", "mountPath": "/mnt/d", "configMap": {"name": "d"}},
    {"name": "workspace", "mountPath": "/mnt/e", "secret": {"secretName": "agents-e"}},
]


def test_volumes_are_mounted_where_the_task_says() -> None:
    pod = made(spec(pod={"volumes": VOLUMES}))

    assert pod["spec"]["volumes"][3:] == [
        {"name": "volume-0", "emptyDir": {"sizeLimit": "2Gi"}},
        {"name": "volume-1", "persistentVolumeClaim": {"claimName": "b", "readOnly": False}},
        {"name": "volume-2", "persistentVolumeClaim": {"claimName": "c", "readOnly": True}},
        {"name": "volume-3", "configMap": {"name": "d", "optional": False}},
        {"name": "volume-4", "secret": {"secretName": "agents-e", "optional": False}},
    ]
    assert pod["spec"]["containers"][0]["volumeMounts"][3:] == [
        {"name": "volume-0", "mountPath": "/data"},
        {"name": "volume-1", "mountPath": "/srv/b"},
        {"name": "volume-2", "mountPath": "/srv/c", "readOnly": True},
        {"name": "volume-3", "mountPath": "/mnt/d", "readOnly": True},
        {"name": "volume-4", "mountPath": "/mnt/e", "readOnly": True},
    ]


def test_the_nodes_disk_is_counted_with_the_tasks_own_room() -> None:
    limits = made(spec(pod={"volumes": VOLUMES[:1]}))["spec"]["containers"][0]["resources"]["limits"]
    assert limits["ephemeral-storage"] == str((2 << 30) + (2 << 30) + (1 << 30) + (512 << 20))


def test_the_workspace_on_a_claim_is_written_to_and_takes_no_disk_of_the_node() -> None:
    pod = made(spec(workspace={"persistentVolumeClaim": {"claimName": "work"}}))

    assert pod["spec"]["volumes"][0] == {"name": "workspace", "persistentVolumeClaim": {"claimName": "work", "readOnly": False}}
    assert pod["spec"]["containers"][0]["volumeMounts"][0] == {"name": "workspace", "mountPath": "/workspace"}
    assert pod["spec"]["containers"][0]["resources"]["limits"]["ephemeral-storage"] == str((2 << 30) + (512 << 20))
    told = document.decode(pod["metadata"]["annotations"][c.ANNOTATION_DOCUMENT])
    assert told.spec.workspace.persistent_volume_claim is not None
    assert told.spec.workspace.persistent_volume_claim.claim_name == "work"


def test_what_the_installation_allows_is_in_the_pod() -> None:
    wishes = {
        "imagePullSecrets": [{"name": "agents-reg"}, {"name": "reg"}],
        "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 9}],
        "priorityClassName": "low",
        "runtimeClassName": "gvisor",
        "serviceAccountName": "agents",
    }

    found = made(spec(pod=wishes | {"imagePullSecrets": [{"name": "agents-reg"}]}))["spec"]

    assert found["imagePullSecrets"] == [{"name": "reg"}, {"name": "agents-reg"}]
    assert found["tolerations"][-1] == wishes["tolerations"][0]  # type: ignore[index]  # a list
    assert (found["priorityClassName"], found["runtimeClassName"]) == ("low", "gvisor")
    assert (found["serviceAccountName"], found["automountServiceAccountToken"]) == ("agents", False)


def test_labels_and_annotations_are_added_and_ours_win() -> None:
    pod = made(spec(pod={"labels": {"team": "a", "example.com/x": ""}, "annotations": {"example.com/why": "so"}}))

    assert pod["metadata"]["labels"]["team"] == "a"
    assert pod["metadata"]["annotations"]["example.com/why"] == "so"
    # What the API server let pass by an older schema is overruled, whatever it says.
    odd = made(spec(pod={"labels": {c.LABEL_TASK_UID: "x"}, "annotations": {c.ANNOTATION_DEVICE: "x"}}))
    assert odd["metadata"]["labels"][c.LABEL_TASK_UID] == task().uid
    assert odd["metadata"]["annotations"][c.ANNOTATION_DEVICE] != "x"


def test_a_class_with_a_claim_template_gives_a_claim_for_each_gpu() -> None:
    found = made(spec(device={"gpu": {"count": 2}}), CLAIMS)["spec"]

    assert found["resourceClaims"] == [
        {"name": "device-0", "resourceClaimTemplateName": "one-gpu"},
        {"name": "device-1", "resourceClaimTemplateName": "one-gpu"},
    ]
    assert found["containers"][0]["resources"]["claims"] == [{"name": "device-0"}, {"name": "device-1"}]
    assert found["runtimeClassName"] == "nvidia"
    assert "resourceClaims" not in made(spec(), GPUS)["spec"]


def test_more_gpus_are_more_of_the_classs_resources() -> None:
    resources = made(spec(device={"gpu": {"count": 3}}), GPUS)["spec"]["containers"][0]["resources"]
    assert resources["limits"]["nvidia.com/mig-1g.5gb"] == resources["requests"]["nvidia.com/mig-1g.5gb"] == "3"


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        (
            {"imagePullSecrets": [{"name": "key"}]},
            "spec.pod.imagePullSecrets[0].name: tasks may not name the Secret 'key'; the installation allows: none (secretGlobs)",
        ),
        (
            {"volumes": [{"name": "a", "mountPath": "/data", "secret": {"secretName": "key"}}]},
            "spec.pod.volumes[0].secret.secretName: tasks may not name the Secret 'key'",
        ),
        (
            {"priorityClassName": "high"},
            "spec.pod.priorityClassName: tasks may not take the priority class 'high'; the installation allows: none (allowedPriori",
        ),
        ({"runtimeClassName": "kata"}, "spec.pod.runtimeClassName: tasks may not take the runtime class 'kata'"),
        ({"serviceAccountName": "admin"}, "spec.pod.serviceAccountName: tasks may not take the service account 'admin'"),
        (
            {"tolerations": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]},
            "spec.pod.tolerations[0]: tasks may not tolerate 'gpu=yes:NoSchedule'; the installation allows: none (allowedTolerations)",
        ),
    ],
    ids=["pull secret", "secret", "priority", "runtime", "account", "toleration"],
)
def test_by_default_none_of_it_is_allowed_and_the_message_names_the_setting(pod: dict[str, Any], words: str) -> None:
    found = refusal(spec(pod=pod), Installation(), NAMES)

    assert found is not None
    assert found.message.startswith(words)


def test_what_is_on_the_lists_is_not_refused() -> None:
    wishes = {
        "imagePullSecrets": [{"name": "agents-reg"}],
        "volumes": VOLUMES,
        "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
        "priorityClassName": "low",
        "runtimeClassName": "gvisor",
        "serviceAccountName": "agents",
    }
    assert refusal(spec(pod=wishes), OPEN, NAMES) is None


@pytest.mark.parametrize(
    ("allowed", "wished", "covered"),
    [
        (SPOT, SPOT, True),
        (SPOT, Toleration(key="spot", value="x", effect="NoSchedule"), True),
        (SPOT, Toleration(key="spot", operator="Exists", effect="NoSchedule", toleration_seconds=7), True),
        (SPOT, Toleration(key="spot", operator="Exists"), False),
        (SPOT, Toleration(operator="Exists", effect="NoSchedule"), False),
        (SPOT, Toleration(key="other", operator="Exists", effect="NoSchedule"), False),
        (Toleration(key="a", value="1"), Toleration(key="a", value="1", effect="NoExecute"), True),
        (Toleration(key="a", value="1"), Toleration(key="a", operator="Exists"), False),
        (Toleration(key="a", value="1"), Toleration(key="a", value="2"), False),
        (Toleration(operator="Exists"), Toleration(key="any", value="2", effect="NoExecute"), True),
        (Toleration(), Toleration(key="a"), False),
    ],
)
def test_a_toleration_is_covered_by_one_that_is_wider(allowed: Toleration, wished: Toleration, covered: bool) -> None:
    assert tolerable(wished, [allowed]) is covered


Change = Callable[[dict[str, Any]], None]


def volume(index: int, **source: Any) -> Change:
    return lambda pod: pod["spec"]["volumes"].__setitem__(3 + index, {"name": f"volume-{index}", **source})


def mount(index: int, **fields: Any) -> Change:
    return lambda pod: pod["spec"]["containers"][0]["volumeMounts"][3 + index].update(fields)


EVIL: dict[str, Change] = {
    "a host path": volume(0, hostPath={"path": "/"}),
    "a Secret that tasks may not name": volume(4, secret={"secretName": "key", "optional": False}),
    "one key of a Secret": volume(4, secret={"secretName": "agents-e", "optional": False, "items": [{"key": "a", "path": "../b"}]}),
    "the document": volume(0, downwardAPI={"items": []}),
    "a projected token": volume(0, projected={"sources": []}),
    "room in memory": volume(0, emptyDir={"sizeLimit": "1Gi", "medium": "Memory"}),
    "room without a size": volume(0, emptyDir={"sizeLimit": "0"}),
    "one key of a ConfigMap": volume(3, configMap={"name": "d", "items": [{"key": "a", "path": "ca.pem"}], "optional": False}),
    "over the runner": mount(0, mountPath="/opt/agenttask"),
    "over the workspace": mount(0, mountPath="/workspace"),
    "over the document": mount(0, mountPath="/etc/agenttask"),
    "over weights": mount(0, mountPath="/mnt/models"),
    "through dots": mount(0, mountPath="/data/../etc"),
    "inside another": mount(0, mountPath="/srv/b/x"),
    "around another": mount(0, mountPath="/srv"),
    "at the place of another": mount(0, mountPath="/srv/b"),
    "a ConfigMap to write": mount(3, readOnly=False),
    "a Secret to write": mount(4, readOnly=False),
    "a sub-path": mount(0, subPath=".."),
    "a Secret as the workspace": lambda pod: pod["spec"]["volumes"].__setitem__(
        0, {"name": "workspace", "secret": {"secretName": "agents-e", "optional": False}}
    ),
    "a ConfigMap as scratch": lambda pod: pod["spec"]["volumes"].__setitem__(
        1, {"name": "scratch", "configMap": {"name": "x", "optional": False}}
    ),
    "a claim in place of the document": lambda pod: pod["spec"]["volumes"].__setitem__(
        2, {"name": "document", "persistentVolumeClaim": {"claimName": "x", "readOnly": True}}
    ),
    "another runtime": lambda pod: pod["spec"].update(runtimeClassName="odd"),
    "another priority": lambda pod: pod["spec"].update(priorityClassName="system-node-critical"),
    "another account": lambda pod: pod["spec"].update(serviceAccountName="admin"),
    "an account by its old name": lambda pod: pod["spec"].update(serviceAccount="agents"),
    "another toleration": lambda pod: pod["spec"]["tolerations"].append({"key": "spot", "operator": "Exists"}),
    "a long stay on a lost node": lambda pod: pod["spec"]["tolerations"][0].update(tolerationSeconds=86400),
    "a toleration that nobody can read": lambda pod: pod["spec"]["tolerations"].append({"key": "spot", "operator": "Lt", "value": "1"}),
    "another template": lambda pod: pod["spec"]["resourceClaims"][0].update(resourceClaimTemplateName="eight-gpus"),
    "a claim that others use": lambda pod: pod["spec"].update(resourceClaims=[{"name": "device-0", "resourceClaimName": "shared"}]),
    "claims that the container does not name": lambda pod: pod["spec"]["resourceClaims"].append(
        {"name": "device-1", "resourceClaimTemplateName": "one-gpu"}
    ),
    "a claim twice": lambda pod: (
        pod["spec"]["resourceClaims"].append(pod["spec"]["resourceClaims"][0]),
        pod["spec"]["containers"][0]["resources"]["claims"].append({"name": "device-0"}),
    ),
    "one request of a claim": lambda pod: pod["spec"]["containers"][0]["resources"]["claims"][0].update(request="all"),
    "resources of the pod as a whole": lambda pod: pod["spec"].update(resources={"limits": {"cpu": "64"}}),
    "affinity": lambda pod: pod["spec"].update(affinity={}),
    "a scheduler of its own": lambda pod: pod["spec"].update(schedulerName="mine"),
    "a label of Kueue's": lambda pod: pod["metadata"]["labels"].update({"kueue.x-k8s.io/priority-class": "x"}),
    "a network": lambda pod: pod["metadata"]["annotations"].update({"k8s.v1.cni.cncf.io/networks": "host"}),
}


@pytest.mark.parametrize("change", EVIL.values(), ids=EVIL)
def test_what_leaves_the_rules_is_not_sent(change: Change) -> None:
    pod = made(spec(pod={"volumes": VOLUMES}), CLAIMS)
    changed = copy.deepcopy(pod)
    change(changed)
    assert changed != pod

    with pytest.raises(PodRejected):
        verify(msgspec.json.encode(changed), OPEN)


# ---- whatever a spec says

NAME = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
PATH = st.from_regex(r"/(data|srv|mnt/[^/:\n]+)(/[^/:\n]+)*", fullmatch=True).filter(lambda path: len(path) < 256) | st.sampled_from(
    ["/data/../etc", "/mnt/models", "/srv/..", "/data", "/mnt/./x", "/mnt/x"]
)
KEY = st.text(max_size=20) | st.sampled_from(["team", "kubernetes.io/x", "kueue.x-k8s.io/queue-name", "example.com/x", c.LABEL_MANAGED_BY])
SOURCE = (
    st.fixed_dictionaries({"emptyDir": st.just({})})
    | st.fixed_dictionaries({"persistentVolumeClaim": st.fixed_dictionaries({"claimName": NAME}), "readOnly": st.booleans()})
    | st.fixed_dictionaries({"configMap": st.fixed_dictionaries({"name": NAME})})
    | st.fixed_dictionaries({"secret": st.fixed_dictionaries({"secretName": st.sampled_from(["agents-a", "key", "agents-b"])})})
)
VOLUME = st.tuples(st.fixed_dictionaries({"name": NAME, "mountPath": PATH}), SOURCE).map(lambda parts: parts[0] | parts[1])
TOLERATION = st.fixed_dictionaries(
    {},
    optional={
        "key": st.sampled_from(["", "spot", "node.kubernetes.io/not-ready"]),
        "operator": st.sampled_from(["Exists", "Equal"]),
        "value": st.sampled_from(["", "x"]),
        "effect": st.sampled_from(["", "NoSchedule", "NoExecute"]),
        "tolerationSeconds": st.integers(0, 604800),
    },
)
PODS = st.fixed_dictionaries(
    {},
    optional={
        "volumes": st.lists(VOLUME, max_size=4),
        "labels": st.dictionaries(KEY, st.text(max_size=10), max_size=3),
        "annotations": st.dictionaries(KEY, st.text(max_size=10), max_size=3),
        "tolerations": st.lists(TOLERATION, max_size=3),
        "imagePullSecrets": st.lists(st.fixed_dictionaries({"name": st.sampled_from(["agents-a", "key", "reg"])}), max_size=2),
        "priorityClassName": st.sampled_from(["low", "system-node-critical"]),
        "runtimeClassName": st.sampled_from(["gvisor", "kata"]),
        "serviceAccountName": st.sampled_from(["agents", "admin"]),
    },
)
ALLOWED_KINDS = {"emptyDir", "persistentVolumeClaim", "configMap", "secret", "downwardAPI", "name"}
POD_FIELDS = {
    *("restartPolicy", "activeDeadlineSeconds", "terminationGracePeriodSeconds", "automountServiceAccountToken", "enableServiceLinks"),
    *("securityContext", "nodeSelector", "tolerations", "volumes", "containers", "imagePullSecrets", "resourceClaims"),
    *("runtimeClassName", "priorityClassName", "serviceAccountName"),
}


@given(PODS, st.sampled_from([None, CLAIMS, GPUS]), st.booleans(), st.none() | st.integers(1, 9))
@settings(max_examples=150, deadline=None)
def test_whatever_a_task_wishes_it_is_refused_or_its_pod_keeps_to_the_rules(
    pod: dict[str, Any], device: DeviceClass | None, claim: bool, count: int | None
) -> None:
    workspace = {"persistentVolumeClaim": {"claimName": "work"}} if claim else {}
    gpus = {"gpu": {"count": count}} if count is not None else {}
    wanted = spec(pod=pod, workspace=workspace, device=gpus)
    accepted = refusal(wanted, OPEN, NAMES) is None
    try:
        found = made(wanted, device)
    except AgentTaskError:
        assert not accepted, "what was accepted must not be stopped by the last look"
        return
    assert found["spec"].keys() <= POD_FIELDS
    assert all(one.keys() <= ALLOWED_KINDS for one in found["spec"]["volumes"])
    assert found["spec"].get("serviceAccountName") in (None, "agents")
    assert found["spec"]["automountServiceAccountToken"] is False
    assert found["metadata"]["labels"][c.LABEL_MANAGED_BY] == c.MANAGED_BY
    for one in found["spec"]["containers"][0]["volumeMounts"]:
        own = one["mountPath"] in (c.WORKSPACE_PATH, c.SCRATCH_PATH, c.DOCUMENT_DIR)
        assert own or (one["mountPath"].startswith(("/data", "/srv", "/mnt/")) and ".." not in one["mountPath"].split("/"))
    for one in found["spec"]["volumes"]:
        assert "secret" not in one or OPEN.may_name_secret(one["secret"]["secretName"])
