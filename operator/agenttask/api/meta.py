"""The parts of `metav1` that we read, and ours of a condition; unknown fields are skipped when decoding."""

from typing import Literal

from msgspec import Struct

ConditionStatus = Literal["True", "False", "Unknown"]


class OwnerReference(Struct, frozen=True, kw_only=True, rename="camel"):
    """metav1.OwnerReference."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class ObjectMeta(Struct, frozen=True, kw_only=True, rename="camel"):
    """metav1.ObjectMeta, as far as we read it. Times are RFC 3339 strings, as on the wire."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()


class Condition(Struct, frozen=True, kw_only=True, rename="camel"):
    """metav1.Condition; `lastTransitionTime` moves only when `status` changes."""

    type: str
    status: ConditionStatus
    reason: str
    message: str = ""
    last_transition_time: str = ""
    observed_generation: int = 0
