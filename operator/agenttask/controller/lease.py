"""A `coordination.k8s.io/v1` Lease as far as election needs it, and who may take it: decided purely.

As client-go's leaderelection does, whether a lease has run out is judged by how long its record has not changed by the
own clock, never by the times in it: clocks of two machines may be minutes apart.
"""

from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec import Struct

API_VERSION: Final = "coordination.k8s.io/v1"


class LeaseMeta(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """metav1.ObjectMeta."""

    name: str = ""
    namespace: str = ""
    resource_version: str = ""


class LeaseSpec(Struct, frozen=True, kw_only=True, rename="camel"):
    """v1.LeaseSpec; times are MicroTime."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(Struct, frozen=True, kw_only=True, rename="camel"):
    """v1.Lease."""

    api_version: str = API_VERSION
    kind: str = "Lease"
    metadata: LeaseMeta = LeaseMeta()
    spec: LeaseSpec = LeaseSpec()


decode: Final = msgspec.json.Decoder(Lease).decode


def may_take(lease: Lease, identity: str, *, unchanged: float) -> bool:
    """Whether this candidate may write itself into the lease, whose record has not changed for so many seconds."""
    holder = lease.spec.holder_identity
    return not holder or holder == identity or unchanged >= (lease.spec.lease_duration_seconds or 0)


def taken(lease: Lease | None, identity: str, *, seconds: int, now: float) -> LeaseSpec:
    """The lease in the hands of this candidate; `now` in Unix seconds."""
    old = lease.spec if lease is not None else LeaseSpec()
    mine = old.holder_identity == identity
    time = micro_time(now)
    return LeaseSpec(
        holder_identity=identity,
        lease_duration_seconds=seconds,
        acquire_time=old.acquire_time if mine else time,
        renew_time=time,
        lease_transitions=(old.lease_transitions or 0) + (not mine and lease is not None),
    )


def released(lease: Lease, *, now: float) -> LeaseSpec:
    """The lease given back: the next candidate need not wait."""
    time = micro_time(now)
    return LeaseSpec(
        holder_identity="", lease_duration_seconds=1, acquire_time=time, renew_time=time, lease_transitions=lease.spec.lease_transitions
    )


def micro_time(seconds: float) -> str:
    """metav1.MicroTime."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
