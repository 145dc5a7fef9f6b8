"""Percentiles, medians with their spread, and the order of rounds."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Spread(NamedTuple):
    """The median of several runs, the least and the most."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        if self.least == self.most:
            return short(self.median)
        return f"{short(self.median)} ({short(self.least)}\N{EN DASH}{short(self.most)})"


def spread(values: Sequence[float]) -> Spread | None:
    """None of no values; those that are not numbers are left out."""
    known = [value for value in values if not math.isnan(value)]
    return Spread(statistics.median(known), min(known), max(known)) if known else None


def shown(values: Iterable[float]) -> str:
    """For a table: the median, with least and most where they differ; empty of no values."""
    found = spread(list(values))
    return "" if found is None else str(found)


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest rank; NaN of no values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def in_turn(names: Sequence[T], number: int) -> list[T]:
    """The order of one round: there and back, so A B, B A, A B, B A: a drift of the machine favours nobody."""
    return list(names) if number % 2 == 0 else list(reversed(names))


def short(value: float) -> str:
    """Three digits that count."""
    if value == 0 or math.isnan(value):
        return "0" if value == 0 else "\N{EN DASH}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"
