"""Device classes, how much of them is there, and what a strategy says of them: the words of placement.

They live here and not beside the hooks because placement is a decision and decides without plugins; `plugin.device`
hands them on to those who write a strategy.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, Protocol

from msgspec import Meta, Struct

from agenttask.api.steps import Quantity
from agenttask.api.task import Gpu

Cost = Annotated[int, Meta(ge=0, le=10**9)] | Annotated[str, Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$", max_length=19)]
"""A decimal number as a string, or a whole one."""


class DeviceClass(Struct, frozen=True, kw_only=True, rename="camel"):
    """A kind of place that the installation defines."""

    name: str
    kind: Literal["cpu", "cuda", "remote"] = "cpu"
    """What computes there; on `remote` the endpoints that local models name as their `remoteModel`."""
    resources: dict[str, Annotated[int, Meta(ge=0, le=1_000_000)]] = {}
    """Extended resources of any vendor that the pod's container requests, as `{"nvidia.com/mig-1g.5gb": 1}`."""
    resource_claim_template: Annotated[str, Meta(max_length=253)] = ""
    """A ResourceClaimTemplate in the task's namespace: the pod gets a claim made from it (dynamic resource allocation)."""
    max_count: Annotated[int, Meta(ge=1, le=64)] | None = None
    """The most GPUs that one task may have here; None: those of `resources`, or one."""
    gpu_memory: Quantity | None = None
    """Of one GPU; None is not known."""
    cost: Cost | None = None
    """Of one unit (`resources`, or one claim) for some time, in whatever currency; compared with other classes only."""
    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, str], ...] = ()
    runtime_class_name: Annotated[str, Meta(max_length=253)] = ""
    image: str | None = None
    """Replaces the runner image of the installation."""


class Stock(Struct, frozen=True, kw_only=True):
    """How much of one class is there: how many more tasks fit on the nodes, and how many would fit on empty ones.

    `None` means unknown (the installation may not read nodes); an unknown stock counts as fitting.
    """

    class_: DeviceClass
    free: int | None = None
    total: int | None = None


class DeviceRequest(Struct, frozen=True, kw_only=True):
    """What the task wishes: class names in order of wish, all of them in the inventory, and the GPUs that it needs, if it says so.

    The inventory is counted for that request: `Stock.class_` has the resources of all its GPUs, and a class that can
    never serve it has a stock of 0.
    """

    classes: tuple[str, ...]
    gpu: Gpu | None = None


class Choice(Struct, frozen=True, kw_only=True):
    """One class with the strategy's verdict: `usable` now or not, and a sentence that tells why."""

    class_: str
    usable: bool
    verdict: str


class DeviceStrategy(Protocol):
    """Ranks device classes."""

    def rank(self, request: DeviceRequest, inventory: Sequence[Stock]) -> Sequence[Choice]:
        """Every class considered, best first; none usable means that the task waits.

        Raises:
            DeviceUnavailable: waiting is pointless, for instance no class of the wished kind is defined.
        """
        ...
