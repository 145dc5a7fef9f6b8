"""Which request meets which fault: an ordered list of rules, and chance that a seed decides.

Chance is drawn from the seed, the rule, the request's key and how often that key came, so that the same request of the same run meets
the same fault again, whatever else happened in between.
"""

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from tests.faults.request import Request

if TYPE_CHECKING:
    from aiohttp import web

    from tests.faults.proxy import Exchange

Fault = Callable[["Exchange"], Awaitable["web.StreamResponse"]]
Match = Callable[[Request], bool]


class Rule(Struct, kw_only=True):
    """The next `times` matching requests (None: all), after the first `skip`, meet the fault, each with this chance."""

    match: Match
    fault: Fault
    times: int | None = 1
    skip: int = 0
    chance: float = 1.0


class Plan:
    """The rules of one proxy; tests add to them while it runs."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rules: list[Rule] = []
        self.met: Counter[str] = Counter()
        """How often a fault was met, by the request's key."""
        self._came: Counter[str] = Counter()

    def add(self, match: Match, fault: Fault, *, times: int | None = 1, skip: int = 0, chance: float = 1.0) -> Rule:
        """Append a rule; the first that matches counts."""
        rule = Rule(match=match, fault=fault, times=times, skip=skip, chance=chance)
        self.rules.append(rule)
        return rule

    def clear(self) -> None:
        """No more faults."""
        self.rules.clear()

    def fault_for(self, request: Request) -> Fault | None:
        """What is to be done to a request."""
        key = request.key
        self._came[key] += 1
        for number, rule in enumerate(self.rules):
            if rule.times == 0 or not rule.match(request):
                continue
            if rule.skip:
                rule.skip -= 1
                continue
            if rule.chance < 1.0 and random.Random(f"{self.seed}/{number}/{key}/{self._came[key]}").random() >= rule.chance:
                continue
            if rule.times is not None:
                rule.times -= 1
            self.met[key] += 1
            return rule.fault
        return None


def on(method: str | None = None, plural: str | None = None, *, subresource: str | None = None, namespace: str | None = None) -> Match:
    """Requests like these; what is None may be anything. A watch is none of them: see `watching`."""

    def match(request: Request) -> bool:
        return (
            not request.watch
            and bool(request.plural)
            and method in (None, request.method)
            and plural in (None, request.plural)
            and subresource in (None, request.subresource)
            and namespace in (None, request.namespace)
        )

    return match


def writes(request: Request) -> bool:
    """Every write that counts."""
    return request.mutating


def watching(*plurals: str) -> Match:
    """Watches of these kinds; without any, all."""
    return lambda request: request.watch and (not plurals or request.plural in plurals)


def listing(*plurals: str) -> Match:
    """Lists of these kinds; without any, all."""
    return lambda request: request.lists and (not plurals or request.plural in plurals)


def keyed(key: str) -> Match:
    """The write of this key."""
    return lambda request: request.mutating and request.key == key


class FirstOfEach:
    """The first so many of every key of a write: each task meets each fault of a list once, in its order."""

    def __init__(self, count: int = 1, match: Match = writes) -> None:
        self._left: Counter[str] = Counter()
        self._count, self._match = count, match

    def __call__(self, request: Request) -> bool:
        if not self._match(request) or self._left[request.key] >= self._count:
            return False
        self._left[request.key] += 1
        return True
