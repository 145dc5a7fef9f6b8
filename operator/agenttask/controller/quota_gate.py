"""Whether quotas let a task's pod be made on a device class, as far as refusals have told (domain/quota.py).

What a quota has too little of is looked up by class: where it is the class's device, the class counts as taken and the task
may have another one at once.
"""

import random as randomness
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Final

from msgspec import Struct

from agenttask.api.reasons import Reason
from agenttask.api.task import AgentTaskSpec, Gpu
from agenttask.controller.admission import NOTHING_FULL, DeviceWish
from agenttask.controller.backoff import Backoff
from agenttask.controller.installation import Installation
from agenttask.controller.resources import PodSize, of_size, size_of
from agenttask.domain.observation import Waits
from agenttask.domain.quantity import amount
from agenttask.domain.queueing import Wish
from agenttask.domain.quota import Asked, Quotas
from agenttask.domain.quota_message import read

AGAIN: Final = Backoff(initial=1.0, maximum=20.0)
"""Between tries: one pod of a whole namespace at a time, so a raised quota may be found soon."""
SETTLES: Final = 0.1
"""Seconds from a pod's end until its quota has counted that: a few milliseconds on a quiet control plane, and we are as fast."""
_KNOWN_SIZES: Final = 1024
_ONE: Final = Decimal(1)


class PodWish(Struct, frozen=True, kw_only=True):
    """All of a task that a quota may count its pod by, or choose it by, besides the device."""

    size: PodSize
    priority_class: str | None = None
    service_account: str | None = None


def pod_wish(spec: AgentTaskSpec) -> PodWish:
    """That of a task."""
    return PodWish(size=size_of(spec), priority_class=spec.pod.priority_class_name, service_account=spec.pod.service_account_name)


class QuotaGate:
    """Remembers refusals.

    `charged` tells whether a quota counts a pod of a task still; `later` calls what it is given after so many seconds; `random` spreads the
    tries of many namespaces. `freed` is to be set: it is told of a namespace in which somebody may fit now.
    """

    def __init__(
        self,
        installation: Installation,
        *,
        charged: Callable[[str], bool],
        later: Callable[[float, Callable[[str], None], str], object],
        random: Callable[[], float] = randomness.random,
    ) -> None:
        self._installation, self._charged, self._later = installation, charged, later
        self.freed: Callable[[str], None] = lambda _: None
        self._quotas = Quotas(lambda failures: AGAIN.delay(failures, random))
        self._counted = lru_cache(_KNOWN_SIZES)(self._count)
        self._ending: dict[str, tuple[str, Asked]] = {}
        """What tasks whose turn is over give back once their pod counts no more."""

    def __contains__(self, namespace: str) -> bool:
        return namespace in self._quotas

    def obstacle(self, wish: Wish, now: float) -> Waits | Mapping[str, str]:
        """Why the task's pod would be refused wherever it is; else the device classes on which it would be, each with the quota's words."""
        if wish.namespace not in self._quotas:
            return NOTHING_FULL
        message = self._quotas.obstacle(wish.namespace, self._asked(wish, ""), now)
        if message is not None:
            return Waits(reason=Reason.UNSCHEDULABLE, message=message)
        with_devices = (one.name for one in self._installation.device_classes if one.resources)
        found = ((name, self._quotas.obstacle(wish.namespace, self._asked(wish, name), now)) for name in with_devices)
        return {name: why for name, why in found if why is not None}

    def grant(self, uid: str, wish: Wish, class_: str) -> None:
        """The task makes its pod."""
        if wish.namespace in self._quotas:
            self._quotas.grant(wish.namespace, uid, self._asked(wish, class_))

    def outdated(self, uid: str, wish: Wish, class_: str, now: float) -> bool:
        """Whether a turn whose pod is not made was given before a refusal that speaks against it."""
        if wish.namespace not in self._quotas or self._quotas.is_current(wish.namespace, uid):
            return False
        return self._quotas.obstacle(wish.namespace, self._asked(wish, class_), now) is not None

    def made(self, uid: str, wish: Wish, now: float) -> bool:
        """The task's pod was taken; whether more may be tried now."""
        return wish.namespace in self._quotas and self._quotas.made(wish.namespace, uid, now)

    def refused(self, uid: str, wish: Wish, class_: str, message: str, now: float) -> None:
        """The task's pod was refused, in these words."""
        self._quotas.refused(wish.namespace, uid, self._asked(wish, class_), read(message), now)

    def leave(self, uid: str, wish: Wish, class_: str, *, made: bool) -> None:
        """The task's turn is over; `made` tells whether its pod was."""
        if wish.namespace not in self._quotas:
            return
        self._quotas.leave(wish.namespace, uid)
        if made:
            self._ending[uid] = (wish.namespace, self._asked(wish, class_))
            if not self._charged(uid):
                self.pod_ended(uid)

    def pod_ended(self, uid: str) -> None:
        """A pod of the task counts no more."""
        if uid in self._ending:
            self._later(SETTLES, self._settle, uid)

    def _settle(self, uid: str) -> None:
        namespace, asked = self._ending.pop(uid, ("", None))
        if asked is not None and namespace in self._quotas:
            self._quotas.freed(namespace, asked)
            self.freed(namespace)

    def due(self, waits: Callable[[str], bool], now: float) -> list[str]:
        """Where it is time to try one; what nobody waits for is forgotten."""
        for namespace in self._quotas:
            if not waits(namespace):
                self._quotas.forget(namespace)
                self._ending = {uid: one for uid, one in self._ending.items() if one[0] != namespace}
        return self._quotas.due(now)

    def _asked(self, wish: Wish, class_: str) -> Asked:
        pod = wish.pod if isinstance(wish.pod, PodWish) else None
        gpu = wish.device.device.gpu if isinstance(wish.device, DeviceWish) else None
        if pod is None:
            return Asked(amounts=_ONE_POD)
        scope = (pod.priority_class, pod.service_account)
        return Asked(scope=scope, size=pod.size, amounts=self._counted(pod.size, class_, gpu))

    def _count(self, size: PodSize, class_: str, gpu: Gpu | None) -> Mapping[str, Decimal]:
        found = of_size(size, self._installation.task_defaults, self._installation.device_class(class_), gpu)
        requests = {name: amount(value) for name, value in found.requests.items()}
        limits = {f"limits.{name}": amount(value) for name, value in found.limits.items()}
        return {**_ONE_POD, **requests, **{f"requests.{name}": value for name, value in requests.items()}, **limits}


_ONE_POD: Final[Mapping[str, Decimal]] = {"pods": _ONE, "count/pods": _ONE}
