"""AgentModel as types: which model a task may call, bound by an admin to an endpoint and its credentials."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from agenttask.api.meta import ObjectMeta
from agenttask.api.steps import PluginName, Seconds, SecretKeyRef, Wire


class Credentials(Wire, frozen=True, kw_only=True):
    """Where the endpoint's credential is; the controller never reads it."""

    secret_key_ref: SecretKeyRef


class Timeouts(Wire, frozen=True, kw_only=True):
    """How long a call may take."""

    connect_seconds: Seconds = 10
    total_seconds: Seconds = 300


class LocalModel(Wire, frozen=True, kw_only=True):
    """Weights that the pod's image (or a mounted volume) holds, for the `local` client; exactly one of `package` and `path`."""

    factory: PluginName = "optimized"
    task: Literal["Chat", "Embedding"] = "Chat"
    package: Annotated[str, Meta(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$", max_length=128)] | None = None
    path: Annotated[str, Meta(pattern=r"^/", max_length=1024)] | None = None
    dtype: Literal["Auto", "Float32", "BFloat16", "Float16"] = "Auto"


class AgentModelSpec(Wire, frozen=True, kw_only=True):
    """One model."""

    client: PluginName
    endpoint: Annotated[str, Meta(pattern=r"^https?://", max_length=2048)] | None = None
    model: Annotated[str, Meta(min_length=1, max_length=256)]
    credentials: Credentials | None = None
    timeouts: Timeouts = Timeouts()
    local: LocalModel | None = None
    parameters: Annotated[dict[str, Annotated[str, Meta(max_length=8192)]], Meta(max_length=64)] = {}


class AgentModel(Struct, frozen=True, kw_only=True, rename="camel"):
    """One model as the API server stores it."""

    metadata: ObjectMeta
    spec: AgentModelSpec
