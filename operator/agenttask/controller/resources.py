"""What a pod asks for: the task's wishes, the installation's defaults, and the device class's extended resources.

Requests and limits are always set. A wish on one side moves the default of the other: a request above the default
limit raises it, a limit below the default request lowers it.
"""

from msgspec import Struct

from agenttask.api.pod_options import ResourceList, Resources
from agenttask.api.steps import Quantity, Wire
from agenttask.api.task import AgentTaskSpec, Gpu
from agenttask.controller.installation import TaskDefaults
from agenttask.domain.device import DeviceClass
from agenttask.domain.device_size import sized, units
from agenttask.domain.quantity import RESOURCES, amount


class ClaimName(Wire, frozen=True, kw_only=True):
    """v1.ResourceClaim: a claim of the pod, by its name there."""

    name: str


class Requirements(Wire, frozen=True, kw_only=True):
    """v1.ResourceRequirements of the container."""

    requests: dict[str, str]
    limits: dict[str, str]
    claims: tuple[ClaimName, ...] = ()


class PodSize(Struct, frozen=True, kw_only=True):
    """All of a task that decides how much its pod asks for, devices aside; `volumes` are those that count as ephemeral storage."""

    resources: Resources = Resources()
    volumes: tuple[Quantity, ...] = ()


def size_of(spec: AgentTaskSpec) -> PodSize:
    """The size of a task's pod."""
    volumes = tuple(one.empty_dir.size_limit for one in spec.pod.volumes if one.empty_dir is not None)
    if spec.workspace.persistent_volume_claim is None:
        volumes = (*volumes, spec.workspace.size_limit)
    return PodSize(resources=spec.pod.resources, volumes=volumes)


def requirements(spec: AgentTaskSpec, defaults: TaskDefaults, device: DeviceClass | None) -> Requirements:
    """Requests and limits of the task's container; `device` is the class as it was defined, for one unit."""
    return of_size(size_of(spec), defaults, device, spec.device.gpu)


def of_size(size: PodSize, defaults: TaskDefaults, device: DeviceClass | None, gpu: Gpu | None) -> Requirements:
    """The same for all tasks of a size that wish such GPUs."""
    wished = size.resources
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    for field, name in RESOURCES:
        request, limit = _pair(
            _get(wished.requests, field),
            _get(wished.limits, field),
            _get(defaults.resources.requests, field),
            _storage(size, defaults) if name == "ephemeral-storage" else _get(defaults.resources.limits, field),
        )
        if request is not None:
            requests[name] = str(request)
        if limit is not None:
            limits[name] = str(limit)
    if device is None:
        return Requirements(requests=requests, limits=limits)
    extended = {name: str(count) for name, count in sized(device, gpu).resources.items() if count > 0}
    claims = tuple(ClaimName(name=one["name"]) for one in resource_claims(device, gpu))
    return Requirements(requests=requests | extended, limits=limits | extended, claims=claims)


def resource_claims(device: DeviceClass, gpu: Gpu | None) -> list[dict[str, str]]:
    """The pod's resourceClaims: one made from the class's template for each unit."""
    template = device.resource_claim_template
    many = units(device, gpu) if template else 0
    return [{"name": f"device-{index}", "resourceClaimTemplateName": template} for index in range(many)]


def _pair(
    request: Quantity | None, limit: Quantity | None, default_request: Quantity | None, default_limit: Quantity | None
) -> tuple[Quantity | None, Quantity | None]:
    if limit is None:
        limit = default_limit
        if request is not None and limit is not None:
            limit = max(request, limit, key=amount)
    if request is None:
        request = default_request if default_request is not None else limit
        if request is not None and limit is not None:
            request = min(request, limit, key=amount)
    return request, limit


def _storage(size: PodSize, defaults: TaskDefaults) -> str | None:
    """The default limit of ephemeral storage: on top of the volumes, which count towards it."""
    own = defaults.resources.limits.ephemeral_storage
    if own is None:
        return None
    return str(int(sum((amount(one) for one in size.volumes), amount(own) + amount(defaults.scratch))))


def _get(amounts: ResourceList, field: str) -> Quantity | None:
    value: Quantity | None = getattr(amounts, field)
    return value
