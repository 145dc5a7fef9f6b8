"""What a task may say of its pod."""

from typing import Annotated, Literal

from msgspec import Meta

from agenttask.api.steps import EnvVar, Quantity, ResourceName, StepName, Wire


class ConfigMapSource(Wire, frozen=True, kw_only=True):
    """A ConfigMap in the task's namespace; each key becomes a file."""

    name: ResourceName


class PersistentVolumeClaimSource(Wire, frozen=True, kw_only=True):
    """A PersistentVolumeClaim in the task's namespace, mounted read-only."""

    claim_name: ResourceName


class ResourceList(Wire, frozen=True, kw_only=True, rename={"ephemeral_storage": "ephemeral-storage"}):
    """Amounts of what a pod may ask for; devices come from the device class."""

    cpu: Quantity | None = None
    memory: Quantity | None = None
    ephemeral_storage: Quantity | None = None


class Resources(Wire, frozen=True, kw_only=True):
    """Requests and limits of the pod's container."""

    requests: ResourceList = ResourceList()
    limits: ResourceList = ResourceList()


class PullSecret(Wire, frozen=True, kw_only=True):
    """A Secret of type dockerconfigjson in the task's namespace, which the installation must allow."""

    name: ResourceName


class EmptyDirSource(Wire, frozen=True, kw_only=True):
    """Room that goes with the pod."""

    size_limit: Quantity = "1Gi"


class SecretSource(Wire, frozen=True, kw_only=True):
    """A Secret in the task's namespace, which the installation must allow; each key becomes a file."""

    secret_name: ResourceName


class PodVolume(Wire, frozen=True, kw_only=True):
    """Files for the task's commands; exactly one source. ConfigMaps and Secrets are read-only."""

    name: StepName
    mount_path: Annotated[str, Meta(pattern=r"^/(data|srv|mnt/[^/:]+)(/[^/:]+)*$", max_length=255)]
    """Where no image of ours has anything, and the runner neither: what is mounted over code would run beside the credentials."""
    read_only: bool = False
    """Of a claim."""
    empty_dir: EmptyDirSource | None = None
    persistent_volume_claim: PersistentVolumeClaimSource | None = None
    config_map: ConfigMapSource | None = None
    secret: SecretSource | None = None


class Toleration(Wire, frozen=True, kw_only=True):
    """v1.Toleration; the installation lists those that tasks may have."""

    key: Annotated[str, Meta(max_length=317)] = ""
    operator: Literal["Exists", "Equal"] = "Equal"
    value: Annotated[str, Meta(max_length=63)] = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    toleration_seconds: Annotated[int, Meta(ge=0, le=604800)] | None = None


class PodOptions(Wire, frozen=True, kw_only=True):
    """What a task may say of its pod: an allow-list, not a pod template."""

    image: Annotated[str, Meta(min_length=1, max_length=512)] | None = None
    image_pull_secrets: Annotated[tuple[PullSecret, ...], Meta(max_length=8)] = ()
    resources: Resources = Resources()
    env: Annotated[tuple[EnvVar, ...], Meta(max_length=64)] = ()
    labels: Annotated[dict[str, Annotated[str, Meta(max_length=63)]], Meta(max_length=32)] = {}
    annotations: Annotated[dict[str, Annotated[str, Meta(max_length=4096)]], Meta(max_length=32)] = {}
    volumes: Annotated[tuple[PodVolume, ...], Meta(max_length=16)] = ()
    node_selector: Annotated[dict[str, Annotated[str, Meta(max_length=63)]], Meta(max_length=32)] = {}
    tolerations: Annotated[tuple[Toleration, ...], Meta(max_length=16)] = ()
    priority_class_name: ResourceName | None = None
    runtime_class_name: ResourceName | None = None
    service_account_name: ResourceName | None = None
