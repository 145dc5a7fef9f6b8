"""Every field that a task's pod may have, and most of the values: an allow-list as types, unknown fields are errors.

Deny-lists of dangerous fields failed other projects again and again (Argo: CVE-2026-31892 and two after it): a pod is
what stands here, so hostPath, hostNetwork, init containers, added capabilities or another service account cannot even be written down.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from agenttask.api import constants as c
from agenttask.controller import kueue

Text = Annotated[str, Meta(min_length=1, max_length=512)]


class Shape(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Base: nothing but what is named."""


class Owner(Shape, frozen=True, kw_only=True):
    """The task."""

    api_version: Literal["agenttask.dev/v1alpha1"]
    kind: Literal["AgentTask"]
    name: Text
    uid: Text
    controller: bool
    block_owner_deletion: bool


class Metadata(Shape, frozen=True, kw_only=True):
    """Names, our labels, our annotations."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
    namespace: Text
    labels: dict[str, str]
    annotations: dict[str, str]
    owner_references: Annotated[tuple[Owner, ...], Meta(min_length=1, max_length=1)]


class Profile(Shape, frozen=True, kw_only=True):
    """Seccomp."""

    type: Literal["RuntimeDefault"]


class PodSecurity(Shape, frozen=True, kw_only=True):
    """v1.PodSecurityContext."""

    run_as_non_root: bool
    run_as_user: Literal[10001]
    run_as_group: Literal[10001]
    fs_group: Literal[10001]
    fs_group_change_policy: Literal["OnRootMismatch"]
    seccomp_profile: Profile


class Capabilities(Shape, frozen=True, kw_only=True):
    """None."""

    drop: Annotated[tuple[Literal["ALL"], ...], Meta(min_length=1, max_length=1)]


class ContainerSecurity(Shape, frozen=True, kw_only=True):
    """v1.SecurityContext."""

    allow_privilege_escalation: bool
    capabilities: Capabilities
    read_only_root_filesystem: bool
    run_as_non_root: bool
    seccomp_profile: Profile


class SecretRef(Shape, frozen=True, kw_only=True):
    """v1.SecretKeySelector."""

    name: Text
    key: Text
    optional: bool


class VariableSource(Shape, frozen=True, kw_only=True):
    """Secrets only: no field of the pod, no ConfigMap."""

    secret_key_ref: SecretRef


class Variable(Shape, frozen=True, kw_only=True):
    """v1.EnvVar."""

    name: Text
    value: str | None = None
    value_from: VariableSource | None = None


class SecretSource(Shape, frozen=True, kw_only=True):
    """v1.SecretEnvSource."""

    name: Text
    optional: bool


class VariablesSource(Shape, frozen=True, kw_only=True):
    """v1.EnvFromSource: all keys of the object store's Secret, and no ConfigMap."""

    prefix: Literal["AGENTTASK_STORE_"]
    secret_ref: SecretSource


class ContainerClaim(Shape, frozen=True, kw_only=True):
    """v1.ResourceClaim: the whole of one of the pod's claims."""

    name: Text


class Amounts(Shape, frozen=True, kw_only=True):
    """v1.ResourceRequirements."""

    requests: dict[str, str]
    limits: dict[str, str]
    claims: tuple[ContainerClaim, ...] = ()


class Mount(Shape, frozen=True, kw_only=True):
    """v1.VolumeMount without sub-paths."""

    name: Text
    mount_path: Text
    read_only: bool = False


class Container(Shape, frozen=True, kw_only=True):
    """The one container."""

    name: Literal["runner"]
    image: Text
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"]
    command: Annotated[tuple[Literal["agenttask-runner"], ...], Meta(min_length=1, max_length=1)]
    env: tuple[Variable, ...]
    env_from: Annotated[tuple[VariablesSource, ...], Meta(max_length=1)] = ()
    resources: Amounts
    volume_mounts: tuple[Mount, ...]
    working_dir: Literal["/workspace"]
    termination_message_path: Literal["/dev/termination-log"]
    termination_message_policy: Literal["File"]
    security_context: ContainerSecurity


class EmptyDir(Shape, frozen=True, kw_only=True):
    """Always with a size; never memory."""

    size_limit: Text


class FieldRef(Shape, frozen=True, kw_only=True):
    """The document's annotation and nothing else."""

    field_path: Literal["metadata.annotations['agenttask.dev/document']"]


class DownwardItem(Shape, frozen=True, kw_only=True):
    """One file."""

    path: Literal["document.json"]
    field_ref: FieldRef


class Downward(Shape, frozen=True, kw_only=True):
    """v1.DownwardAPIVolumeSource."""

    items: Annotated[tuple[DownwardItem, ...], Meta(min_length=1, max_length=1)]


class KeyItem(Shape, frozen=True, kw_only=True):
    """v1.KeyToPath: the one key that holds a model's certificates."""

    key: Text
    path: Literal["ca.pem"]


class ConfigMap(Shape, frozen=True, kw_only=True):
    """v1.ConfigMapVolumeSource."""

    name: Text
    items: Annotated[tuple[KeyItem, ...], Meta(max_length=1)] = ()
    optional: bool


class Claim(Shape, frozen=True, kw_only=True):
    """v1.PersistentVolumeClaimVolumeSource."""

    claim_name: Text
    read_only: bool


class Secret(Shape, frozen=True, kw_only=True):
    """v1.SecretVolumeSource, all keys."""

    secret_name: Text
    optional: bool


_VOLUME_FIELDS = {
    "empty_dir": "emptyDir",
    "downward_api": "downwardAPI",
    "config_map": "configMap",
    "persistent_volume_claim": "persistentVolumeClaim",
}


class Volume(Shape, frozen=True, kw_only=True, rename=_VOLUME_FIELDS):
    """The five kinds there are."""

    name: Text
    empty_dir: EmptyDir | None = None
    downward_api: Downward | None = None
    config_map: ConfigMap | None = None
    persistent_volume_claim: Claim | None = None
    secret: Secret | None = None


class Toleration(Shape, frozen=True, kw_only=True):
    """v1.Toleration."""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class PullSecret(Shape, frozen=True, kw_only=True):
    """v1.LocalObjectReference."""

    name: Text


class PodClaim(Shape, frozen=True, kw_only=True):
    """v1.PodResourceClaim: made from a template with the pod, and gone with it; never one that others use."""

    name: Text
    resource_claim_template_name: Text


class SchedulingGate(Shape, frozen=True, kw_only=True):
    """v1.PodSchedulingGate."""

    name: Text


class PodSpec(Shape, frozen=True, kw_only=True):
    """v1.PodSpec."""

    restart_policy: Literal["Never"]
    active_deadline_seconds: Annotated[int, Meta(ge=1)]
    termination_grace_period_seconds: Literal[40]
    automount_service_account_token: bool
    enable_service_links: bool
    security_context: PodSecurity
    node_selector: dict[str, str]
    tolerations: tuple[Toleration, ...]
    volumes: tuple[Volume, ...]
    containers: Annotated[tuple[Container, ...], Meta(min_length=1, max_length=1)]
    image_pull_secrets: tuple[PullSecret, ...] = ()
    resource_claims: tuple[PodClaim, ...] = ()
    scheduling_gates: tuple[SchedulingGate, ...] = ()
    runtime_class_name: Text | None = None
    priority_class_name: Text | None = None
    service_account_name: Text | None = None


class Pod(Shape, frozen=True, kw_only=True):
    """v1.Pod."""

    api_version: Literal["v1"]
    kind: Literal["Pod"]
    metadata: Metadata
    spec: PodSpec


LABELS = frozenset({c.LABEL_TASK_UID, c.LABEL_TASK_NAME, c.LABEL_ATTEMPT, c.LABEL_QUEUE, c.LABEL_MANAGED_BY}) | kueue.LABELS
ANNOTATIONS = frozenset({c.ANNOTATION_DOCUMENT, c.ANNOTATION_DEVICE, c.ANNOTATION_MODELS})
