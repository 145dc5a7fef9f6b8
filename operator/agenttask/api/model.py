"""AgentModel as types: which model a task may call, bound by an admin to an endpoint and its credentials."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from agenttask.api.meta import ObjectMeta
from agenttask.api.steps import PluginName, Quantity, ResourceName, Seconds, SecretKeyRef, Wire


class Credentials(Wire, frozen=True, kw_only=True):
    """Where the endpoint's credential is; the controller never reads it."""

    secret_key_ref: SecretKeyRef


class ConfigMapKeyRef(Wire, frozen=True, kw_only=True):
    """One key of a ConfigMap in the model's namespace."""

    name: ResourceName
    key: Annotated[str, Meta(pattern=r"^[-._a-zA-Z0-9]+$", min_length=1, max_length=253)]


class CaBundle(Wire, frozen=True, kw_only=True):
    """Certificates (PEM) that the endpoint's is checked against, in place of the system's."""

    config_map_key_ref: ConfigMapKeyRef


class Timeouts(Wire, frozen=True, kw_only=True):
    """How long a call may take; `firstTokenSeconds` is until the answer begins."""

    connect_seconds: Seconds = 10
    first_token_seconds: Seconds | None = None
    total_seconds: Seconds = 300


class Limits(Wire, frozen=True, kw_only=True):
    """How much may be asked of the endpoint; a call that would be too many waits."""

    concurrent_calls: Annotated[int, Meta(ge=1, le=10000)] | None = None
    requests_per_minute: Annotated[int, Meta(ge=1, le=10000000)] | None = None
    tokens_per_minute: Annotated[int, Meta(ge=1, le=2147483647)] | None = None


class CallRetry(Wire, frozen=True, kw_only=True):
    """Retries of one call, within `timeouts.totalSeconds` of all tries; `Retry-After` is kept to."""

    limit: Annotated[int, Meta(ge=0, le=20)] = 2
    max_backoff_seconds: Annotated[int, Meta(ge=1, le=3600)] = 30


class CircuitBreaker(Wire, frozen=True, kw_only=True):
    """Stops calling an endpoint that fails: for `openSeconds`, once `failurePercent` of at least `minimumCalls` failed in the window."""

    failure_percent: Annotated[int, Meta(ge=1, le=100)] = 50
    minimum_calls: Annotated[int, Meta(ge=1, le=1000)] = 10
    window_seconds: Annotated[int, Meta(ge=1, le=3600)] = 60
    open_seconds: Annotated[int, Meta(ge=1, le=3600)] = 30


Price = Annotated[str, Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$", max_length=19)]
"""A decimal number as a string: money is no float."""


class Prices(Wire, frozen=True, kw_only=True):
    """What a million tokens cost; from it status shows the cost of a task."""

    input_per_million: Price = "0"
    output_per_million: Price = "0"
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}$", max_length=3)] = "USD"


class ClaimSource(Wire, frozen=True, kw_only=True):
    """Weights on a PersistentVolumeClaim, mounted read-only; `path` is the folder in it."""

    claim_name: ResourceName
    path: Annotated[str, Meta(pattern=r"^[^/]", max_length=1024)] = "."


class HubSource(Wire, frozen=True, kw_only=True):
    """Weights of a model hub, by repository and revision; downloaded into the cache at the first load, where the installation allows it."""

    repository: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][-A-Za-z0-9_.]*(/[A-Za-z0-9][-A-Za-z0-9_.]*)?$", max_length=200)]
    revision: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][-A-Za-z0-9_./]*$", max_length=128)] = "main"


class LocalModel(Wire, frozen=True, kw_only=True):
    """Weights for the `local` client; exactly one of `package`, `path`, `persistentVolumeClaim` and `hub`."""

    factory: PluginName = "optimized"
    task: Literal["Chat", "Embedding"] = "Chat"
    package: Annotated[str, Meta(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$", max_length=128)] | None = None
    path: Annotated[str, Meta(pattern=r"^/", max_length=1024)] | None = None
    persistent_volume_claim: ClaimSource | None = None
    hub: HubSource | None = None
    dtype: Literal["Auto", "Float32", "BFloat16", "Float16"] = "Auto"
    max_batch: Annotated[int, Meta(ge=1, le=256)] = 16
    """Answers that are generated, or texts that are embedded, at once."""
    memory: Quantity | None = None
    """What the attention cache may take; without it a share of what the container (or the device) has left."""
    isolation: Literal["Thread", "Process"] = "Thread"
    """`Process` keeps a crash of the device's libraries out of the runner, for some 15 % more work."""
    remote_model: ResourceName | None = None
    """The AgentModel of an endpoint that takes this one's place on device classes of kind `remote`."""


class AgentModelSpec(Wire, frozen=True, kw_only=True):
    """One model."""

    client: PluginName
    endpoint: Annotated[str, Meta(pattern=r"^https?://", max_length=2048)] | None = None
    model: Annotated[str, Meta(min_length=1, max_length=256)]
    credentials: Credentials | None = None
    headers: Annotated[dict[str, Annotated[str, Meta(pattern=r"^[ -~]*$", max_length=4096)]], Meta(max_length=32)] = {}
    """Sent with every call; not for credentials."""
    ca_bundle: CaBundle | None = None
    http2: Literal["Auto", "Disabled", "PriorKnowledge"] = "Auto"
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    retry: CallRetry = CallRetry()
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    fallback: Annotated[tuple[ResourceName, ...], Meta(max_length=8)] = ()
    """Models to ask, in this order, where this one is unavailable, rate limited or its breaker is open."""
    prices: Prices | None = None
    local: LocalModel | None = None
    parameters: Annotated[dict[str, Annotated[str, Meta(max_length=8192)]], Meta(max_length=64)] = {}


class AgentModel(Struct, frozen=True, kw_only=True, rename="camel"):
    """One model as the API server stores it."""

    metadata: ObjectMeta
    spec: AgentModelSpec
