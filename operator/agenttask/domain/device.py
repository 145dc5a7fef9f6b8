"""Device classes, how much of them is there, and what a strategy says of them: the words of placement.

They live here and not beside the hooks because placement is a decision and decides without plugins; `plugin.device`
hands them on to those who write a strategy.
"""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct


class DeviceClass(Struct, frozen=True, kw_only=True, rename="camel"):
    """A kind of place that the installation defines: `kind` is `cpu`, `cuda` or `remote`.

    `resources` are extended resources the pod's container requests (`{"nvidia.com/gpu": 1}`), `image` replaces the
    runner image of the installation.
    """

    name: str
    kind: str = "cpu"
    resources: dict[str, int] = {}
    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, str], ...] = ()
    image: str | None = None


class Stock(Struct, frozen=True, kw_only=True):
    """How much of one class is there: how many more tasks fit on the nodes, and how many would fit on empty ones.

    `None` means unknown (the installation may not read nodes); an unknown stock counts as fitting.
    """

    class_: DeviceClass
    free: int | None = None
    total: int | None = None


class DeviceRequest(Struct, frozen=True, kw_only=True):
    """What the task wishes: class names in order of wish; all of them are in the inventory."""

    classes: tuple[str, ...]


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
