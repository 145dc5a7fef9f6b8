"""The pod of one attempt, as bytes ready to POST: DESIGN.md §4 "Pod", §3 "Secrets".

Variables of `pod.env` are no variables of the container: `LD_PRELOAD` there would run the task's code beside the model
credentials. The runner reads them from the task document and gives them to commands only.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from agenttask.api import constants as c
from agenttask.api.document import DeviceDocument, GatewayDocument, Policy, SecretVariable, TaskDocument, TaskRef, encode
from agenttask.api.model import AgentModelSpec
from agenttask.api.task import AgentTaskSpec, DeviceStatus
from agenttask.controller import kueue
from agenttask.controller.installation import Installation, OutputStore
from agenttask.controller.pod_models import PodModels, SecretEnv, pod_models
from agenttask.controller.pod_name import pod_name
from agenttask.controller.pod_volumes import pod_volumes
from agenttask.controller.resources import requirements, resource_claims
from agenttask.domain.deadlines import backstop_seconds
from agenttask.domain.device import DeviceClass
from agenttask.domain.model_names import models_named
from agenttask.domain.observation import SeenTask
from agenttask.domain.restricted import CONTAINER_SECURITY
from agenttask.domain.runner_spec import for_runner
from agenttask.domain.secret_uses import secret_uses

COMMAND: Final = "agenttask-runner"
NODE_TOLERATION_SECONDS: Final = 30
_MAX_LABEL: Final = 63
_MAX_CALLS_BYTES: Final = 4096
_encode_json: Final = msgspec.json.Encoder(order="deterministic").encode


class PodRequest(Struct, frozen=True, kw_only=True):
    """Everything that a pod is made from; `models` has fallbacks too, `environment` are further plain variables (tracing).

    `device_class` is the class as the installation defines it, `models` are those of that class (`models_on`), `calls` the names of
    the AgentModels that the steps call there, without fallbacks.
    """

    task: SeenTask
    spec: AgentTaskSpec
    attempt: int
    models: Mapping[str, AgentModelSpec]
    device: DeviceStatus
    device_class: DeviceClass | None
    environment: Mapping[str, str]
    gateway: GatewayDocument | None = None
    calls: tuple[str, ...] = ()


def build(request: PodRequest, installation: Installation) -> bytes:
    """The pod's JSON.

    Raises:
        InvalidTask: the task document is larger than an annotation may be.
    """
    task, spec = request.task, request.spec
    meta = task.metadata
    models = pod_models(request.models, models_named(spec))
    secrets, secret_variables = _secrets(spec)
    image = installation.image_for(spec.pod.image, request.device_class, list(request.models.values()))
    store = installation.output_store_for(image)
    document = TaskDocument(
        task=TaskRef(name=meta.name, namespace=meta.namespace, uid=meta.uid, created=meta.creation_timestamp),
        attempt=request.attempt,
        spec=for_runner(spec),
        models=models.documents,
        secrets=secrets,
        device=_device(request),
        policy=Policy(hosts=installation.allowed_hosts, hub=installation.hub_downloads),
        gateway=request.gateway,
        output_store=store.document() if store is not None else None,
    )
    environment = [*models.variables, *secret_variables]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(meta.name, meta.uid, request.attempt),
            "namespace": meta.namespace,
            "labels": {
                **spec.pod.labels,
                **kueue.pod_labels(meta.labels),
                c.LABEL_TASK_UID: meta.uid,
                c.LABEL_TASK_NAME: meta.name[:_MAX_LABEL].rstrip("-."),
                c.LABEL_ATTEMPT: str(request.attempt),
                c.LABEL_QUEUE: spec.queue,
                c.LABEL_MANAGED_BY: c.MANAGED_BY,
            },
            "annotations": {
                **spec.pod.annotations,
                c.ANNOTATION_DOCUMENT: encode(document),
                c.ANNOTATION_DEVICE: _encode_json(request.device).decode(),
                **_calls(request.calls),
            },
            "ownerReferences": [
                {
                    "apiVersion": c.API_VERSION,
                    "kind": c.TASK_KIND,
                    "name": meta.name,
                    "uid": meta.uid,
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": _pod_spec(request, installation, models, image=image, secrets=environment, store=store),
    }
    return _encode_json(pod)


def _calls(names: tuple[str, ...]) -> dict[str, str]:
    """A longer list is left out: a pod's annotations have a bound, and it would only make a count exact for a while."""
    told = _encode_json(names).decode() if names else ""
    return {c.ANNOTATION_MODELS: told} if 0 < len(told.encode()) <= _MAX_CALLS_BYTES else {}


def _pod_spec(
    request: PodRequest,
    installation: Installation,
    models: PodModels,
    *,
    image: str,
    secrets: Sequence[SecretEnv],
    store: OutputStore | None,
) -> dict[str, Any]:
    device, spec = request.device_class, request.spec
    volumes, mounts = pod_volumes(spec, installation)
    settings: dict[str, str] = dict(installation.runner_environment.items())
    pod: dict[str, Any] = {
        **kueue.pod_fields(request.task.metadata.labels),
        "restartPolicy": "Never",
        "activeDeadlineSeconds": backstop_seconds(request.task, spec),
        "terminationGracePeriodSeconds": c.POD_GRACE_SECONDS,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": c.POD_UID,
            "runAsGroup": c.POD_UID,
            "fsGroup": c.POD_UID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "nodeSelector": {**spec.pod.node_selector, **(device.node_selector if device is not None else {})},
        "tolerations": [
            *(
                {
                    "key": f"node.kubernetes.io/{taint}",
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": NODE_TOLERATION_SECONDS,
                }
                for taint in ("not-ready", "unreachable")
            ),
            *(device.tolerations if device is not None else ()),
            *spec.pod.tolerations,
        ],
        "volumes": [*volumes, *models.volumes],
        "containers": [
            {
                "name": c.CONTAINER,
                "image": image,
                "imagePullPolicy": installation.images.pull_policy,
                "command": [COMMAND],
                "env": _environment({**settings, **request.environment}, secrets),
                **_store_variables(store),
                "resources": requirements(spec, installation.task_defaults, device),
                "volumeMounts": [*mounts, *models.mounts],
                "workingDir": c.WORKSPACE_PATH,
                "terminationMessagePath": c.TERMINATION_PATH,
                "terminationMessagePolicy": "File",
                "securityContext": dict(CONTAINER_SECURITY),
            }
        ],
    }
    pull = dict.fromkeys([*installation.images.pull_secrets, *(one.name for one in spec.pod.image_pull_secrets)])
    runtime = device.runtime_class_name if device is not None and device.runtime_class_name else spec.pod.runtime_class_name
    wished = {
        "imagePullSecrets": [{"name": name} for name in pull],
        "resourceClaims": resource_claims(device, spec.device.gpu) if device is not None else [],
        "runtimeClassName": runtime,
        "priorityClassName": spec.pod.priority_class_name,
        "serviceAccountName": spec.pod.service_account_name,
    }
    return pod | {name: value for name, value in wished.items() if value}


def _environment(plain: Mapping[str, str], secrets: Sequence[SecretEnv]) -> list[dict[str, Any]]:
    """`$$` keeps the kubelet from expanding `$(NAME)` in a value."""
    own = {"HOME": c.SCRATCH_PATH, "TMPDIR": c.SCRATCH_PATH}
    return [
        *({"name": name, "value": value.replace("$", "$$")} for name, value in (own | dict(plain)).items()),
        *(
            {"name": one.name, "valueFrom": {"secretKeyRef": {"name": one.secret.name, "key": one.secret.key, "optional": False}}}
            for one in secrets
        ),
    ]


def _store_variables(store: OutputStore | None) -> dict[str, Any]:
    """Every key of the object store's Secret as a variable: nobody here may read which there are."""
    if store is None or not store.secret_name:
        return {}
    return {"envFrom": [{"prefix": c.ENV_STORE_PREFIX, "secretRef": {"name": store.secret_name, "optional": False}}]}


def _secrets(spec: AgentTaskSpec) -> tuple[tuple[SecretVariable, ...], list[SecretEnv]]:
    """Which step gets which variable, and the variables."""
    uses = [(f"{c.ENV_SECRET_PREFIX}{index}", use) for index, use in enumerate(secret_uses(spec.steps))]
    named = tuple(SecretVariable(step=use.step, name=use.name, env=variable) for variable, use in uses)
    return named, [SecretEnv(name=variable, secret=use.ref) for variable, use in uses]


def _device(request: PodRequest) -> DeviceDocument:
    one = request.device_class
    if one is None:
        return DeviceDocument(strategy=request.spec.device.strategy)
    return DeviceDocument(class_=one.name, kind=one.kind, strategy=request.spec.device.strategy)
