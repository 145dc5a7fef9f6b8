"""The pod of an attempt, and the last look at it: what it has, what it can never have."""

import copy
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.seen import UID, spec, task

from agenttask.api import constants as c
from agenttask.api import document
from agenttask.api.errors import InvalidTask, PodRejected
from agenttask.api.model import AgentModelSpec
from agenttask.api.task import AgentTaskSpec, DeviceStatus
from agenttask.controller.installation import Images, Installation
from agenttask.controller.pod import PodRequest, build
from agenttask.controller.pod_name import pod_name
from agenttask.controller.verify import verify
from agenttask.domain.device import DeviceClass

GPU = DeviceClass(
    name="gpu",
    kind="cuda",
    resources={"nvidia.com/gpu": 1},
    node_selector={"accelerator": "a100"},
    tolerations=({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},),
)
INSTALLATION = Installation(
    device_classes=(GPU, DeviceClass(name="cpu")),
    images=Images(runner="r:1", runner_torch="t:1", pull_secrets=("reg",)),
    secret_globs=("agents",),
)
TRUSTING = msgspec.structs.replace(INSTALLATION, secret_globs=("*",), credential_images=("*",))
KEYED = {
    "client": "openai",
    "endpoint": "https://models.example/v1",
    "model": "m",
    "credentials": {"secretKeyRef": {"name": "key", "key": "k"}},
}
LOCAL = {"client": "local", "model": "tiny", "local": {"package": "tiny-model"}}


def request(
    wanted: AgentTaskSpec,
    models: dict[str, Any] | None = None,
    *,
    device: DeviceClass | None = None,
    environment: dict[str, str] | None = None,
) -> PodRequest:
    return PodRequest(
        task=task(),
        spec=wanted,
        attempt=1,
        models={name: msgspec.convert(model, AgentModelSpec) for name, model in (models or {}).items()},
        device=DeviceStatus(class_=device.name if device is not None else "cpu", reason="because"),
        device_class=device,
        environment=environment or {},
    )


def made(wanted: AgentTaskSpec, *args: Any, installation: Installation = INSTALLATION, **kwargs: Any) -> dict[str, Any]:
    body = build(request(wanted, *args, **kwargs), installation)
    verify(body, installation)
    pod: dict[str, Any] = msgspec.json.decode(body)
    return pod


def container(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod["spec"]["containers"][0]
    return found


def variables(pod: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container(pod)["env"]}


def test_a_pod_is_owned_named_and_locked_down() -> None:
    pod = made(spec())

    assert pod["metadata"]["name"] == pod_name("review", UID, 1)
    assert pod["metadata"]["labels"] == {
        c.LABEL_TASK_UID: UID,
        c.LABEL_TASK_NAME: "review",
        c.LABEL_ATTEMPT: "1",
        c.LABEL_QUEUE: "default",
        c.LABEL_MANAGED_BY: c.MANAGED_BY,
    }
    (owner,) = pod["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"], owner["kind"]) == (UID, True, "AgentTask")
    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["enableServiceLinks"] is False
    assert pod["spec"]["securityContext"]["runAsUser"] == c.POD_UID
    assert pod["spec"]["imagePullSecrets"] == [{"name": "reg"}]
    assert container(pod)["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container(pod)["securityContext"]["readOnlyRootFilesystem"] is True
    assert container(pod)["command"] == ["agenttask-runner"]


def test_the_pods_own_deadline_is_a_backstop_for_both() -> None:
    assert made(spec(pendingDeadlineSeconds=60, activeDeadlineSeconds=100))["spec"]["activeDeadlineSeconds"] == 160


def test_the_document_travels_as_an_annotation_and_a_file() -> None:
    pod = made(spec(), {"small": KEYED}, device=GPU)

    told = document.decode(pod["metadata"]["annotations"][c.ANNOTATION_DOCUMENT])
    assert (told.task.uid, told.task.name, told.attempt) == (UID, "review", 1)
    assert (told.device.class_, told.device.kind, told.device.strategy) == ("gpu", "cuda", "auto")
    assert [(one.name, one.credential_env) for one in told.models] == [("small", "AGENTTASK_CREDENTIAL_0")]
    mounts = {mount["name"]: mount["mountPath"] for mount in container(pod)["volumeMounts"]}
    assert mounts == {"workspace": "/workspace", "scratch": "/tmp", "document": "/etc/agenttask"}
    assert msgspec.json.decode(pod["metadata"]["annotations"][c.ANNOTATION_DEVICE])["class"] == "gpu"


@pytest.mark.parametrize(
    ("calls", "told"),
    [((), None), (("small", "große"), '["small","große"]'), (tuple(f"{'m' * 250}{index}" for index in range(100)), None)],
    ids=["none", "some", "too many to tell"],
)
def test_a_pod_tells_the_models_that_it_calls(calls: tuple[str, ...], told: str | None) -> None:
    body = build(msgspec.structs.replace(request(spec()), calls=calls), INSTALLATION)
    verify(body, INSTALLATION)
    assert msgspec.json.decode(body)["metadata"]["annotations"].get(c.ANNOTATION_MODELS) == told


def test_a_document_too_large_for_an_annotation_is_the_tasks_fault() -> None:
    with pytest.raises(InvalidTask, match="move long texts into a ConfigMap"):
        build(request(spec(params={f"p{index}": "x" * 8000 for index in range(30)})), INSTALLATION)


def test_credentials_and_secrets_come_by_reference_under_our_names() -> None:
    env = [{"name": "TOKEN", "secretKeyRef": {"name": "agents", "key": "t"}}, {"name": "PLAIN", "value": "x"}]
    steps = [{"name": "run", "exec": {"command": ["a"], "env": env}}, {"name": "ask", "chat": {"model": "small", "prompt": "x"}}]

    pod = made(spec(steps=steps), {"small": KEYED, "open": LOCAL})

    assert variables(pod) == {
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "AGENTTASK_CREDENTIAL_0": {"secretKeyRef": {"name": "key", "key": "k", "optional": False}},
        "AGENTTASK_SECRET_0": {"secretKeyRef": {"name": "agents", "key": "t", "optional": False}},
    }
    told = document.decode(pod["metadata"]["annotations"][c.ANNOTATION_DOCUMENT])
    assert [(one.step, one.name, one.env) for one in told.secrets] == [("run", "TOKEN", "AGENTTASK_SECRET_0")]


def test_every_secret_of_a_step_comes_under_the_name_that_it_fills() -> None:
    ref = {"name": "agents", "key": "t"}
    steps = [
        {"name": "get", "fetch": {"url": "u", "headers": [{"name": "Accept", "value": "x"}, {"name": "X-Key", "secretKeyRef": ref}]}},
        {"name": "code", "git": {"clone": {"url": "u", "path": "p", "credentials": ref}}},
    ]

    pod = made(spec(steps=steps))

    told = document.decode(pod["metadata"]["annotations"][c.ANNOTATION_DOCUMENT])
    assert [(one.step, one.name, one.env) for one in told.secrets] == [
        ("get", "X-Key", "AGENTTASK_SECRET_0"),
        ("code", "credentials", "AGENTTASK_SECRET_1"),
    ]
    assert {name for name in variables(pod) if name.startswith(c.ENV_SECRET_PREFIX)} == {"AGENTTASK_SECRET_0", "AGENTTASK_SECRET_1"}


def test_what_the_installation_allows_is_in_the_document() -> None:
    allowing = msgspec.structs.replace(INSTALLATION, allowed_hosts=("api.example.com",), hub_downloads=True)

    told = [
        document.decode(made(spec(), installation=one)["metadata"]["annotations"][c.ANNOTATION_DOCUMENT]).policy
        for one in (INSTALLATION, allowing)
    ]

    assert told == [document.Policy(), document.Policy(hosts=("api.example.com",), hub=True)]


ENDPOINT = {
    **KEYED,
    "headers": {"X-Team": "agents"},
    "caBundle": {"configMapKeyRef": {"name": "ca", "key": "tls.crt"}},
    "http2": "Disabled",
    "timeouts": {"connectSeconds": 1, "firstTokenSeconds": 5, "totalSeconds": 60},
    "limits": {"concurrentCalls": 4, "requestsPerMinute": 60, "tokensPerMinute": 100000},
    "retry": {"limit": 0, "maxBackoffSeconds": 5},
    "circuitBreaker": {"failurePercent": 20, "minimumCalls": 5, "windowSeconds": 10, "openSeconds": 10},
    "fallback": ["local"],
    "prices": {"inputPerMillion": "0.15", "outputPerMillion": "0.6", "currency": "EUR"},
    "parameters": {"top_p": "0.9"},
}
CLAIMED = {
    "client": "local",
    "model": "smol",
    "credentials": {"secretKeyRef": {"name": "other", "key": "k"}},
    "local": {"persistentVolumeClaim": {"claimName": "weights", "path": "smol/./v2/"}, "memory": 1000000000, "isolation": "Process"},
    "fallback": ["never"],
}
ASK = [{"name": "ask", "chat": {"model": "small", "prompt": "x"}}]


def test_every_field_of_a_model_reaches_the_runner() -> None:
    pod = made(spec(steps=ASK), {"small": ENDPOINT})

    told = msgspec.to_builtins(document.decode(pod["metadata"]["annotations"][c.ANNOTATION_DOCUMENT]).models[0])
    expected = {name: value for name, value in ENDPOINT.items() if name not in ("credentials", "caBundle")}
    assert told == {
        "name": "small",
        "credentialEnv": "AGENTTASK_CREDENTIAL_0",
        "caFile": "/etc/agenttask-ca/small/ca.pem",
        **{name: tuple(value) if isinstance(value, list) else value for name, value in expected.items()},
    }


def test_a_fallback_brings_its_credential_and_its_weights_and_no_fallbacks_of_its_own() -> None:
    pod = made(spec(steps=ASK), {"small": ENDPOINT, "local": CLAIMED})

    first, second = document.decode(pod["metadata"]["annotations"][c.ANNOTATION_DOCUMENT]).models
    assert (first.fallback, second.fallback) == (("local",), ())
    assert [first.credential_env, second.credential_env] == ["AGENTTASK_CREDENTIAL_0", "AGENTTASK_CREDENTIAL_1"]
    assert variables(pod)["AGENTTASK_CREDENTIAL_1"] == {"secretKeyRef": {"name": "other", "key": "k", "optional": False}}
    assert second.local is not None
    assert (second.local.path, second.local.persistent_volume_claim) == ("/mnt/models/local/smol/v2", None)
    assert (second.local.memory, second.local.isolation) == (1000000000, "Process")
    assert container(pod)["image"] == "t:1"
    assert pod["spec"]["volumes"][3:] == [
        {"name": "ca-0", "configMap": {"name": "ca", "items": [{"key": "tls.crt", "path": "ca.pem"}], "optional": False}},
        {"name": "model-1", "persistentVolumeClaim": {"claimName": "weights", "readOnly": True}},
    ]
    assert container(pod)["volumeMounts"][3:] == [
        {"name": "ca-0", "mountPath": "/etc/agenttask-ca/small", "readOnly": True},
        {"name": "model-1", "mountPath": "/mnt/models/local", "readOnly": True},
    ]


def test_the_root_of_a_claim_is_its_mount() -> None:
    claimed = {**CLAIMED, "local": {"persistentVolumeClaim": {"claimName": "weights"}}}

    pod = made(spec(steps=ASK), {"small": claimed})

    (told,) = document.decode(pod["metadata"]["annotations"][c.ANNOTATION_DOCUMENT]).models
    assert told.local is not None
    assert told.local.path == "/mnt/models/small"


def test_variables_of_the_task_are_none_of_the_container() -> None:
    pod = made(spec(pod={"env": [{"name": "LD_PRELOAD", "value": "/inputs/x/evil.so"}, {"name": "MODE", "value": "a"}]}))

    assert not {"LD_PRELOAD", "MODE"} & variables(pod).keys()


def test_the_installations_settings_of_the_runner_are_variables_of_its_container() -> None:
    saying = msgspec.structs.replace(INSTALLATION, runner_environment={"FEATURE_GATES": "HTTP2=false"})
    assert variables(made(spec(), installation=saying))["FEATURE_GATES"] == "HTTP2=false"
    assert "FEATURE_GATES" not in variables(made(spec()))


def test_no_variable_is_expanded_by_the_kubelet() -> None:
    pod = made(spec(), environment={"OTEL_RESOURCE_ATTRIBUTES": "a=$(AGENTTASK_CREDENTIAL_0)"})

    assert variables(pod)["OTEL_RESOURCE_ATTRIBUTES"] == "a=$$(AGENTTASK_CREDENTIAL_0)"


def test_inputs_are_mounted_read_only_whatever_their_names() -> None:
    name = "n" * 63
    inputs = [{"name": name, "configMap": {"name": "repo"}}, {"name": "data", "persistentVolumeClaim": {"claimName": "disk"}}]

    pod = made(spec(inputs=inputs))

    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert volumes["input-0"] == {"name": "input-0", "configMap": {"name": "repo", "optional": False}}
    assert volumes["input-1"] == {"name": "input-1", "persistentVolumeClaim": {"claimName": "disk", "readOnly": True}}
    assert container(pod)["volumeMounts"][3:] == [
        {"name": "input-0", "mountPath": f"/inputs/{name}", "readOnly": True},
        {"name": "input-1", "mountPath": "/inputs/data", "readOnly": True},
    ]


def test_a_device_class_brings_its_resources_nodes_and_tolerations() -> None:
    pod = made(spec(pod={"nodeSelector": {"zone": "a", "accelerator": "mine"}}), device=GPU)

    assert container(pod)["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container(pod)["resources"]["requests"]["nvidia.com/gpu"] == "1"
    assert pod["spec"]["nodeSelector"] == {"zone": "a", "accelerator": "a100"}
    assert [one["key"] for one in pod["spec"]["tolerations"]] == [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
        "nvidia.com/gpu",
    ]


@pytest.mark.parametrize(
    ("wish", "device", "models", "image"),
    [
        ({}, None, {}, "r:1"),
        ({}, None, {"m": LOCAL}, "t:1"),
        ({"image": "mine:1"}, None, {"m": LOCAL}, "mine:1"),
        ({}, DeviceClass(name="gpu", image="cuda:1"), {"m": LOCAL}, "cuda:1"),
    ],
    ids=["small", "local model", "own", "class"],
)
def test_the_image_is_the_nearest_that_was_named(
    wish: dict[str, str], device: DeviceClass | None, models: dict[str, Any], image: str
) -> None:
    assert container(made(spec(pod=wish), models, device=device))["image"] == image


@given(st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", fullmatch=True), st.uuids().map(str), st.integers(1, 9999))
def test_a_pods_name_is_a_dns_label_and_differs_by_uid(name: str, uid: str, attempt: int) -> None:
    found = pod_name(name, uid, attempt)

    assert len(found) <= 63
    assert found.replace("-", "").isalnum()
    assert found[0] != "-"
    assert found != pod_name(name, f"{uid}x", attempt) != pod_name(name, f"{uid}x", attempt + 1)
    assert found == pod_name(name, uid, attempt)


# ---- the last look


def poke(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(pod: dict[str, Any]) -> None:
        *folders, last = path.split("/")
        place: Any = pod
        for part in folders:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if isinstance(place, list):
            place.append(value)
        else:
            place[last] = value

    return change


def secret(variable: str, name: str) -> Callable[[dict[str, Any]], None]:
    value_from = {"secretKeyRef": {"name": name, "key": "k", "optional": False}}
    return poke("spec/containers/0/env/-", {"name": variable, "valueFrom": value_from})


def in_a_foreign_image(pod: dict[str, Any]) -> None:
    poke("spec/containers/0/image", "evil:1")(pod)
    secret("AGENTTASK_CREDENTIAL_0", "key")(pod)


EVIL: dict[str, Callable[[dict[str, Any]], None]] = {
    "host path": poke("spec/volumes/-", {"name": "h", "hostPath": {"path": "/"}}),
    "secret volume": poke("spec/volumes/-", {"name": "h", "secret": {"secretName": "key"}}),
    "projected token": poke("spec/volumes/-", {"name": "h", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}),
    "memory emptyDir": poke("spec/volumes/0/emptyDir/medium", "Memory"),
    "two sources": poke("spec/volumes/0/configMap", {"name": "x", "optional": False}),
    "no source": poke("spec/volumes/-", {"name": "h"}),
    "a volume twice": poke("spec/volumes/-", {"name": "workspace", "emptyDir": {"sizeLimit": "1Gi"}}),
    "writable claim": poke("spec/volumes/-", {"name": "h", "persistentVolumeClaim": {"claimName": "x", "readOnly": False}}),
    "another annotation as a file": poke("spec/volumes/2/downwardAPI/items/0/fieldRef/fieldPath", "metadata.labels"),
    "host network": poke("spec/hostNetwork", True),
    "host pid": poke("spec/hostPID", True),
    "host users": poke("spec/hostUsers", True),
    "service account": poke("spec/serviceAccountName", "admin"),
    "token": poke("spec/automountServiceAccountToken", True),
    "service links": poke("spec/enableServiceLinks", True),
    "init container": poke("spec/initContainers", [{"name": "x", "image": "x"}]),
    "ephemeral container": poke("spec/ephemeralContainers", [{"name": "x", "image": "x"}]),
    "second container": poke("spec/containers/-", {"name": "runner", "image": "x"}),
    "priority class": poke("spec/priorityClassName", "system-node-critical"),
    "runtime class": poke("spec/runtimeClassName", "odd"),
    "node name": poke("spec/nodeName", "node-1"),
    "root": poke("spec/securityContext/runAsUser", 0),
    "root allowed": poke("spec/securityContext/runAsNonRoot", False),
    "unconfined": poke("spec/securityContext/seccompProfile", {"type": "Unconfined"}),
    "sysctls": poke("spec/securityContext/sysctls", [{"name": "x", "value": "y"}]),
    "supplemental groups": poke("spec/securityContext/supplementalGroups", [0]),
    "restarts": poke("spec/restartPolicy", "Always"),
    "a stranger's pull secret": poke("spec/imagePullSecrets", [{"name": "key"}]),
    "any toleration": poke("spec/tolerations/-", {"operator": "Exists"}),
    "for ever on a lost node": poke(
        "spec/tolerations/-", {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}
    ),
    "privileged": poke("spec/containers/0/securityContext/privileged", True),
    "escalation": poke("spec/containers/0/securityContext/allowPrivilegeEscalation", True),
    "capabilities": poke("spec/containers/0/securityContext/capabilities", {"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
    "capabilities kept": poke("spec/containers/0/securityContext/capabilities", {"drop": []}),
    "unmasked proc": poke("spec/containers/0/securityContext/procMount", "Unmasked"),
    "writable root": poke("spec/containers/0/securityContext/readOnlyRootFilesystem", False),
    "root in the container": poke("spec/containers/0/securityContext/runAsNonRoot", False),
    "another command": poke("spec/containers/0/command", ["sh"]),
    "arguments": poke("spec/containers/0/args", ["-c", "x"]),
    "host port": poke("spec/containers/0/ports", [{"containerPort": 80, "hostPort": 80}]),
    "life-cycle hook": poke("spec/containers/0/lifecycle", {"postStart": {"exec": {"command": ["x"]}}}),
    "environment of a Secret": poke("spec/containers/0/envFrom", [{"secretRef": {"name": "key"}}]),
    "block device": poke("spec/containers/0/volumeDevices", [{"name": "x", "devicePath": "/dev/x"}]),
    "preload": poke("spec/containers/0/env/-", {"name": "LD_PRELOAD", "value": "/inputs/x.so"}),
    "a Secret under another name": secret("OTEL_X", "agents"),
    "a Secret that tasks may not name": secret("AGENTTASK_SECRET_0", "key"),
    "a credential in a foreign image": in_a_foreign_image,
    "a variable of the pod": poke("spec/containers/0/env/-", {"name": "AGENTTASK_SECRET_9", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}),
    "a variable twice": poke("spec/containers/0/env/-", {"name": "HOME", "value": "/"}),
    "a variable without a value": poke("spec/containers/0/env/-", {"name": "OTEL_X"}),
    "a device of no class": poke("spec/containers/0/resources/limits/amd.com~gpu", "8"),
    "no memory limit": poke("spec/containers/0/resources/limits", {"cpu": "1"}),
    "a limit that is none": poke("spec/containers/0/resources/limits/memory", "0"),
    "a volume without a size": poke("spec/volumes/0/emptyDir/sizeLimit", "0"),
    "no requests": poke("spec/containers/0/resources/requests", {}),
    "sub-path": poke("spec/containers/0/volumeMounts/0/subPath", "x"),
    "sub-path by expression": poke("spec/containers/0/volumeMounts/0/subPathExpr", "$(X)"),
    "propagation": poke("spec/containers/0/volumeMounts/0/mountPropagation", "Bidirectional"),
    "mounted elsewhere": poke("spec/containers/0/volumeMounts/0/mountPath", "/usr"),
    "mounted outside of the inputs": poke("spec/containers/0/volumeMounts/3/mountPath", "/usr/x"),
    "mounted above the inputs": poke("spec/containers/0/volumeMounts/3/mountPath", "/inputs/.."),
    "writable input": poke("spec/containers/0/volumeMounts/3/readOnly", False),
    "mount of nothing": poke("spec/containers/0/volumeMounts/-", {"name": "nothing", "mountPath": "/inputs/b", "readOnly": True}),
    "mounted twice": poke("spec/containers/0/volumeMounts/-", {"name": "input-0", "mountPath": "/workspace", "readOnly": True}),
    "scratch as an input": poke("spec/containers/0/volumeMounts/3/name", "scratch"),
    "fallback to logs": poke("spec/containers/0/terminationMessagePolicy", "FallbackToLogsOnError"),
    "a label of Kubernetes": lambda pod: pod["metadata"]["labels"].update({"app.kubernetes.io/name": "payments"}),
    "a label of ours": lambda pod: pod["metadata"]["labels"].update({"agenttask.dev/other": "x"}),
    "an annotation of Kubernetes": lambda pod: pod["metadata"]["annotations"].update({"autoscaler.kubernetes.io/x": "0"}),
    "finalizers": poke("metadata/finalizers", ["x/y"]),
    "another owner": poke("metadata/ownerReferences/0/uid", "other"),
    "no controller": poke("metadata/ownerReferences/0/controller", False),
    "a service account": poke("kind", "ServiceAccount"),
}


EVIL_OF_MODELS: dict[str, Callable[[dict[str, Any]], None]] = {
    "another file of a ConfigMap": poke("spec/volumes/3/configMap/items/0/path", "../x"),
    "two keys of a ConfigMap": poke("spec/volumes/3/configMap/items/-", {"key": "x", "path": "ca.pem"}),
    "a whole ConfigMap as certificates": poke("spec/volumes/3/configMap/items", []),
    "writable weights": poke("spec/containers/0/volumeMounts/4/readOnly", False),
    "a writable claim of weights": poke("spec/volumes/4/persistentVolumeClaim/readOnly", False),
    "certificates among the inputs": poke("spec/containers/0/volumeMounts/3/mountPath", "/inputs/x"),
    "certificates among the weights": poke("spec/containers/0/volumeMounts/3/mountPath", "/mnt/models/x"),
    "weights among the certificates": poke("spec/containers/0/volumeMounts/4/mountPath", "/etc/agenttask-ca/x"),
    "weights elsewhere": poke("spec/containers/0/volumeMounts/4/mountPath", "/etc/x"),
    "weights above their folder": poke("spec/containers/0/volumeMounts/4/mountPath", "/mnt/models/.."),
    "certificates above their folder": poke("spec/containers/0/volumeMounts/3/mountPath", "/etc/agenttask-ca/"),
}


@pytest.mark.parametrize("change", EVIL_OF_MODELS.values(), ids=EVIL_OF_MODELS)
def test_what_models_mount_stays_where_it_belongs(change: Callable[[dict[str, Any]], None]) -> None:
    pod = made(spec(steps=ASK), {"small": ENDPOINT, "local": CLAIMED})
    changed = copy.deepcopy(pod)
    change(changed)
    assert changed != pod

    with pytest.raises(PodRejected):
        verify(msgspec.json.encode(changed), INSTALLATION)


@pytest.mark.parametrize("change", EVIL.values(), ids=EVIL)
def test_what_no_task_may_have_never_leaves_the_controller(change: Callable[[dict[str, Any]], None]) -> None:
    pod = made(spec(inputs=[{"name": "repo", "configMap": {"name": "repo"}}]))
    changed = copy.deepcopy(pod)
    change(changed)
    assert changed != pod

    with pytest.raises(PodRejected):
        verify(msgspec.json.encode(changed), INSTALLATION)


names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
nasty = st.text(max_size=60) | st.sampled_from(
    ["$(AGENTTASK_CREDENTIAL_0)", "..", "/", "hostPath", '"}],"hostNetwork":true,"x":[{"a":"', "--", "\x00"]
)
quantities = st.from_regex(r"[1-9][0-9]{0,5}(\.[0-9]{1,3})?(m|k|M|G|Ki|Mi|Gi)?", fullmatch=True)
amounts = st.fixed_dictionaries(
    {}, optional={"cpu": quantities | st.integers(1, 10**18), "memory": quantities, "ephemeral-storage": quantities}
)
secret_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
specs = st.fixed_dictionaries(
    {
        "params": st.dictionaries(nasty, nasty, max_size=3),
        "inputs": st.lists(
            st.fixed_dictionaries({"name": names, "configMap": st.fixed_dictionaries({"name": names})})
            | st.fixed_dictionaries({"name": names, "persistentVolumeClaim": st.fixed_dictionaries({"claimName": names})}),
            max_size=4,
            unique_by=lambda one: one["name"],
        ),
        "workspace": st.fixed_dictionaries({"sizeLimit": quantities | st.integers(1, 10**18)}),
        "pod": st.fixed_dictionaries(
            {
                "resources": st.fixed_dictionaries({"requests": amounts, "limits": amounts}),
                "env": st.lists(st.fixed_dictionaries({"name": secret_names, "value": nasty}), max_size=3),
                "nodeSelector": st.dictionaries(nasty, nasty, max_size=3),
            },
            optional={"image": nasty.filter(bool)},
        ),
        "steps": st.lists(
            st.fixed_dictionaries(
                {
                    "name": names,
                    "exec": st.fixed_dictionaries(
                        {
                            "command": st.lists(nasty, min_size=1, max_size=3),
                            "env": st.lists(
                                st.fixed_dictionaries(
                                    {"name": secret_names, "secretKeyRef": st.fixed_dictionaries({"name": names, "key": names})}
                                ),
                                max_size=3,
                            ),
                        }
                    ),
                }
            ),
            min_size=1,
            max_size=3,
        ),
    }
)


@given(specs, st.sampled_from([None, GPU]))
@settings(max_examples=100, deadline=None)
def test_no_spec_makes_a_pod_that_leaves_the_rules(fields: dict[str, Any], device: DeviceClass | None) -> None:
    pod = made(spec(**fields), {"small": KEYED}, device=device, installation=TRUSTING)

    inner, outer = container(pod), pod["spec"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName", "initContainers", "ephemeralContainers"} & outer.keys()
    assert not {"args", "ports", "envFrom", "lifecycle", "volumeDevices"} & inner.keys()
    kinds = {kind for volume in outer["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"emptyDir", "downwardAPI", "configMap", "persistentVolumeClaim"}
    plain = {one["name"] for one in inner["env"] if "value" in one}
    assert plain == {"HOME", "TMPDIR"}
    assert all(len(outer_volume["name"]) <= 63 for outer_volume in outer["volumes"])
    assert inner["resources"]["limits"].keys() >= {"cpu", "memory", "ephemeral-storage"}
