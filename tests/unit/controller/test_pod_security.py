"""The whole pod of one task, field by field, and what Pod Security `restricted` asks of every one."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.seen import UID, spec, task

from agenttask.api.model import AgentModelSpec
from agenttask.api.task import DeviceStatus
from agenttask.controller.installation import Images, Installation
from agenttask.controller.pod import PodRequest, build
from agenttask.controller.verify import verify
from agenttask.domain.device import DeviceClass

CPU = DeviceClass(name="cpu")
RESTRICTED_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
DOCUMENT = (
    '{"version":2,'
    f'"task":{{"name":"review","namespace":"agents","uid":"{UID}","created":"2027-01-15T08:00:00Z"}},'
    '"attempt":1,'
    '"spec":{"inputs":[{"name":"repo","configMap":{"name":"repo"}}],'
    '"steps":[{"name":"ask","chat":{"model":"small","prompt":"Why?"}}],'
    '"pod":{"env":[{"name":"MODE","value":"$(HOME)"}]},'
    '"activeDeadlineSeconds":100},'
    '"models":[{"name":"small","client":"openai","model":"m","endpoint":"https://models.example/v1",'
    '"credentialEnv":"AGENTTASK_CREDENTIAL_0","timeouts":{},"limits":{},"retry":{},"circuitBreaker":{}}],'
    '"secrets":[],'
    '"device":{"class":"cpu","kind":"cpu","strategy":"auto"},'
    '"policy":{},"gateway":null,"outputStore":null}'
)
WHOLE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "review-7d60b0db44-1",
        "namespace": "agents",
        "labels": {
            "agenttask.dev/attempt": "1",
            "agenttask.dev/queue": "default",
            "agenttask.dev/task-name": "review",
            "agenttask.dev/task-uid": UID,
            "app.kubernetes.io/managed-by": "agenttask",
        },
        "annotations": {"agenttask.dev/device": '{"class":"cpu","reason":"cpu: needs no device"}', "agenttask.dev/document": DOCUMENT},
        "ownerReferences": [
            {
                "apiVersion": "agenttask.dev/v1alpha1",
                "kind": "AgentTask",
                "name": "review",
                "uid": UID,
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ],
    },
    "spec": {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": 160,
        "terminationGracePeriodSeconds": 40,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "nodeSelector": {},
        "tolerations": [
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
        ],
        "volumes": [
            {"name": "workspace", "emptyDir": {"sizeLimit": "1Gi"}},
            {"name": "scratch", "emptyDir": {"sizeLimit": "512Mi"}},
            {
                "name": "document",
                "downwardAPI": {
                    "items": [
                        {"path": "document.json", "fieldRef": {"fieldPath": "metadata.annotations['agenttask.dev/document']"}},
                    ]
                },
            },
            {"name": "input-0", "configMap": {"name": "repo", "optional": False}},
        ],
        "containers": [
            {
                "name": "runner",
                "image": "r:1",
                "imagePullPolicy": "IfNotPresent",
                "command": ["agenttask-runner"],
                "env": [
                    {"name": "HOME", "value": "/tmp"},
                    {"name": "TMPDIR", "value": "/tmp"},
                    {
                        "name": "AGENTTASK_CREDENTIAL_0",
                        "valueFrom": {"secretKeyRef": {"name": "key", "key": "k", "optional": False}},
                    },
                ],
                "resources": {
                    "requests": {"cpu": "100m", "memory": "128Mi", "ephemeral-storage": "128Mi"},
                    "limits": {"cpu": "2", "memory": "2Gi", "ephemeral-storage": str((1 << 30) + (2 << 30) + (512 << 20))},
                },
                "volumeMounts": [
                    {"name": "workspace", "mountPath": "/workspace"},
                    {"name": "scratch", "mountPath": "/tmp"},
                    {"name": "document", "mountPath": "/etc/agenttask", "readOnly": True},
                    {"name": "input-0", "mountPath": "/inputs/repo", "readOnly": True},
                ],
                "workingDir": "/workspace",
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": True,
                    "runAsNonRoot": True,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
            }
        ],
    },
}


def body(installation: Installation, fields: dict[str, Any], models: dict[str, Any], device: DeviceClass | None = CPU) -> bytes:
    request = PodRequest(
        task=task(),
        spec=spec(**fields),
        attempt=1,
        models={name: msgspec.convert(model, AgentModelSpec) for name, model in models.items()},
        device=DeviceStatus(class_="cpu", reason="cpu: needs no device"),
        device_class=device,
        environment={},
    )
    return build(request, installation)


def test_the_whole_pod_of_one_task() -> None:
    fields = {
        "steps": [{"name": "ask", "chat": {"model": "small", "prompt": "Why?"}}],
        "inputs": [{"name": "repo", "configMap": {"name": "repo"}}],
        "pod": {"env": [{"name": "MODE", "value": "$(HOME)"}]},
    }
    model = {
        "client": "openai",
        "endpoint": "https://models.example/v1",
        "model": "m",
        "credentials": {"secretKeyRef": {"name": "key", "key": "k"}},
    }

    made = body(Installation(images=Images(runner="r:1")), fields, {"small": model})

    assert msgspec.json.decode(made) == WHOLE
    assert made == body(Installation(images=Images(runner="r:1")), fields, {"small": model})


def violations(pod: dict[str, Any]) -> list[str]:
    """What Pod Security `restricted` (Kubernetes 1.35) would say; written from its documentation, not from our code."""
    outer = pod["spec"]
    security = outer.get("securityContext", {})
    found = [name for name in ("hostNetwork", "hostPID", "hostIPC") if outer.get(name)]
    found += [f"volume {kind}" for volume in outer["volumes"] for kind in volume if kind not in RESTRICTED_VOLUMES | {"name"}]
    found += ["sysctls"] if security.get("sysctls") else []
    for one in [*outer["containers"], *outer.get("initContainers", []), *outer.get("ephemeralContainers", [])]:
        own = {**security, **one.get("securityContext", {})}
        capabilities = own.get("capabilities", {})
        checks = {
            "privileged": not own.get("privileged", False),
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "capabilities.drop": "ALL" in capabilities.get("drop", []),
            "capabilities.add": set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"},
            "runAsNonRoot": own.get("runAsNonRoot") is True,
            "runAsUser": own.get("runAsUser") != 0,
            "seccompProfile": own.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"),
            "procMount": own.get("procMount", "Default") == "Default",
            "hostPort": not any(port.get("hostPort") for port in one.get("ports", [])),
            "probes and hooks": not {"livenessProbe", "readinessProbe", "startupProbe", "lifecycle"} & one.keys(),
        }
        found += [name for name, holds in checks.items() if not holds]
    return found


text = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=40)
names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
wishes = st.fixed_dictionaries(
    {
        "inputs": st.lists(
            st.tuples(names, st.sampled_from(["configMap", "persistentVolumeClaim"]), names), max_size=4, unique_by=lambda one: one[0]
        ).map(lambda found: [{"name": name, kind: {"name" if kind == "configMap" else "claimName": of}} for name, kind, of in found]),
        "pod": st.fixed_dictionaries(
            {
                "nodeSelector": st.dictionaries(text, text, max_size=3),
                "env": st.lists(
                    st.fixed_dictionaries({"name": st.from_regex(r"[A-Z_][A-Z0-9_]{0,20}", fullmatch=True), "value": text}), max_size=3
                ),
            },
            optional={"image": text.filter(bool)},
        ),
    }
)
devices = st.sampled_from([None, CPU, DeviceClass(name="gpu", kind="cuda", resources={"nvidia.com/gpu": 2}, image="g:1")])


@given(wishes, devices)
@settings(max_examples=100, deadline=None)
def test_every_pod_is_restricted(fields: dict[str, Any], device: DeviceClass | None) -> None:
    installation = Installation(device_classes=(CPU, *([device] if device is not None and device.name != "cpu" else [])))

    made = body(installation, fields, {}, device)

    verify(made, installation)
    assert violations(msgspec.json.decode(made)) == []


@pytest.mark.parametrize("field", ["hostNetwork", "hostPID", "hostIPC"])
def test_the_check_itself_finds_what_is_wrong(field: str) -> None:
    assert violations({**WHOLE, "spec": {**WHOLE["spec"], field: True}}) == [field]
