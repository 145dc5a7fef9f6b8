"""What the admin decided for every task: images, device classes, defaults and what tasks may reach."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from msgspec import Meta, Struct

from agenttask.api.document import OutputStoreDocument
from agenttask.api.model import AgentModelSpec
from agenttask.api.output_store import MAX_OBJECT_BYTES
from agenttask.api.pod_options import ResourceList, Resources, Toleration
from agenttask.api.steps import Quantity
from agenttask.domain.device import DeviceClass
from agenttask.domain.output_store import as_text

LOCAL_CLIENT = "local"
"""The LLM client that computes in the pod, and so needs the image with torch."""
Name = Annotated[str, Meta(min_length=1, max_length=253)]
HostPattern = Annotated[
    str, Meta(pattern=r"^((\*\.)?[a-z0-9_]([-a-z0-9_.]*[a-z0-9_])?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?$", min_length=1, max_length=259)
]
"""A host, an IP address, or everything below a domain, as `*.example.com`; with a port where it is not the scheme's."""

RunnerVariable = Literal[
    "FEATURE_GATES",
    "HTTP_CONNECTIONS",
    "HTTP_CONNECTIONS_PER_HOST",
    "HTTP_DNS_CACHE_SECONDS",
    "HTTP_TOTAL_SECONDS",
    "HTTP_CA_FILE",
    "HTTP_HEADERS",
    "DEVICE_TYPE",
    "CPU_THREADS",
    "GPU_MEMORY_FRACTION",
    "MAX_WORKERS",
    "MAX_PROCESSES",
    "AGENTTASK_DEBUG",
    "HF_ENDPOINT",
]
"""Settings of the runner by its own names; the runner checks the values."""


class Section(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Base of all settings: an unknown key is an error."""


class Images(Section, frozen=True, kw_only=True):
    """Images of task pods; `runnerTorch` for tasks with a local model."""

    runner: Annotated[str, Meta(min_length=1)] = "agenttask/runner:latest"
    runner_torch: Annotated[str, Meta(min_length=1)] = "agenttask/runner-torch:latest"
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    pull_secrets: tuple[Name, ...] = ()


class TaskDefaults(Section, frozen=True, kw_only=True):
    """For tasks that say nothing in `pod.resources`; `scratch` is the size of the pod's /tmp."""

    resources: Resources = Resources(
        requests=ResourceList(cpu="100m", memory="128Mi", ephemeral_storage="128Mi"),
        limits=ResourceList(cpu="2", memory="2Gi", ephemeral_storage="2Gi"),
    )
    scratch: Quantity = "512Mi"


class ExtraPlugins(Section, frozen=True, kw_only=True):
    """Names that only plugins in the runner image have; the controller lets them pass."""

    step_kinds: tuple[Name, ...] = ()
    llm_clients: tuple[Name, ...] = ()
    threading: tuple[Name, ...] = ()
    model_factories: tuple[Name, ...] = ()


class Plugins(Section, frozen=True, kw_only=True):
    """`allowedDistributions` load in the controller, with its rights."""

    allowed_distributions: tuple[Name, ...] = ("agenttask",)
    extra: ExtraPlugins = ExtraPlugins()


class OutputStore(Section, frozen=True, kw_only=True):
    """Where outputs go that neither the termination message nor the gateway takes; `domain/output_store.py` has the rules."""

    url: str = ""
    """As s3://bucket/prefix; empty: nowhere."""
    secret_name: Annotated[str, Meta(pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", max_length=253)] = ""
    """A Secret in each namespace of tasks, whose keys are the store's own options; empty: the pod's identity."""
    options: Annotated[dict[Name, Annotated[str, Meta(max_length=16384)] | bool], Meta(max_length=32)] = {}
    """What is no secret of them."""
    max_bytes: Annotated[int, Meta(ge=65536, le=1 << 29)] = MAX_OBJECT_BYTES

    def document(self) -> OutputStoreDocument | None:
        """What a pod is told of it."""
        if not self.url:
            return None
        options = {name: as_text(value) for name, value in self.options.items()}
        return OutputStoreDocument(url=self.url, options=options, secret=self.secret_name, max_bytes=self.max_bytes)


class FeatureGates(
    Section,
    frozen=True,
    kw_only=True,
    rename={"gateway": "Gateway", "provider_admission": "ProviderAdmission", "device_fallback": "DeviceFallback"},
):
    """Parts that can be taken back without a new image, named as Kubernetes names its gates."""

    gateway: bool = True
    """Running attempts hand over checkpoints, large outputs and progress."""
    provider_admission: bool = True
    """Limits and breakers of AgentModels hold back tasks that would run into them."""
    device_fallback: bool = True
    """A pod that finds no node, or whose device fails, gives way to one on the next class."""


class Installation(Section, frozen=True, kw_only=True):
    """The part of the settings that decides about tasks."""

    images: Images = Images()
    device_classes: tuple[DeviceClass, ...] = (DeviceClass(name="cpu"),)
    default_device_classes: tuple[str, ...] = ("cpu",)
    task_defaults: TaskDefaults = TaskDefaults()
    secret_globs: tuple[Name, ...] = ()
    """Globs of the Secrets that a task may name, those to pull its image with too."""
    reserved_secrets: tuple[Name, ...] = ()
    """Secrets that no task may name, whatever the globs say: with the gateway's it could sign the tokens of all."""
    allowed_tolerations: tuple[Toleration, ...] = ()
    allowed_priority_classes: tuple[Name, ...] = ()
    allowed_runtime_classes: tuple[Name, ...] = ()
    allowed_service_accounts: tuple[Name, ...] = ()
    """What tasks may take for their pods; none of it by default. An account's token is mounted in no pod."""
    credential_images: tuple[Name, ...] = ()
    """Globs of the images that may get model credentials; empty: the images of this installation."""
    allowed_hosts: tuple[HostPattern, ...] = ()
    """Hosts that `fetch` and `git` may reach; none: the two kinds are refused."""
    hub_downloads: bool = False
    """Whether pods may download weights from a model hub."""
    runner_environment: dict[RunnerVariable, Annotated[str, Meta(max_length=1024)]] = {}
    """Settings of every task's runner: gates and bounds change without a new image."""
    output_store: OutputStore = OutputStore()
    plugins: Plugins = Plugins()
    feature_gates: FeatureGates = FeatureGates()

    def image_for(self, wished: str | None, device: DeviceClass | None, models: Sequence[AgentModelSpec]) -> str:
        """The pod's image: the task's own, the device class's, the one with torch for local models, the small one."""
        if wished is not None:
            return wished
        if device is not None and device.image:
            return device.image
        return self.images.runner_torch if any(model.client == LOCAL_CLIENT for model in models) else self.images.runner

    def device_class(self, name: str) -> DeviceClass | None:
        """The class of this name."""
        return next((one for one in self.device_classes if one.name == name), None)

    def may_hold_credentials(self, image: str) -> bool:
        """Whether an image may get a model's credential."""
        own = [self.images.runner, self.images.runner_torch, *(one.image for one in self.device_classes if one.image)]
        return any(fnmatchcase(image, glob) for glob in self.credential_images) if self.credential_images else image in own

    def output_store_for(self, image: str) -> OutputStore | None:
        """The object store, if there is one, and its credential may be in a pod of this image."""
        store = self.output_store
        return store if store.url and (not store.secret_name or self.may_hold_credentials(image)) else None

    def may_name_secret(self, name: str) -> bool:
        """Whether a task may name this Secret."""
        if name in self.reserved_secrets or name == self.output_store.secret_name:
            return False
        return any(fnmatchcase(name, glob) for glob in self.secret_globs)
