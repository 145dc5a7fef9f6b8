"""How late the loop is: quantiles that can be trusted, and a block that counts for all that it held up."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask.runner.loop_lag import Latencies, LoopLag


def test_nothing_measured_is_no_lag() -> None:
    assert (Latencies().quantile(0.99), Latencies().largest) == (0.0, 0.0)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_at_most_a_quarter_too_high(values: list[float], share: float) -> None:
    found = Latencies()
    for value in values:
        found.add(value)
    exact = next(value for place, value in enumerate(sorted(values), 1) if place >= share * len(values))
    assert exact <= found.quantile(share) * 1.000001 + 1e-9
    assert found.quantile(share) <= max(exact * 1.2500001, 0.0001)
    assert found.largest == max(values)


def test_a_day_fits() -> None:
    found = Latencies()
    found.add(86400.0)
    assert found.largest == 86400.0
    assert found.quantile(0.99) > 4000


async def test_a_blocked_loop_counts_for_every_tick_that_it_held_up() -> None:
    lag = LoopLag(tick_seconds=0.01)
    lag.start()
    await asyncio.sleep(0.05)
    lag.recent()
    time.sleep(0.3)  # noqa: ASYNC251 - what is measured
    await asyncio.sleep(0.05)
    lag.stop()
    recent = lag.recent()
    assert recent.largest >= 0.25
    assert recent.quantile(0.5) >= 0.02  # 30 ticks were held up, by 0 to 0.3 s
    assert lag.recent().largest == 0
    assert lag.whole.largest == recent.largest or lag.whole.largest > recent.largest


async def test_after_its_end_it_measures_no_more() -> None:
    lag = LoopLag(tick_seconds=0.001)
    lag.stop()
    lag.start()
    await asyncio.sleep(0.02)
    lag.stop()
    lag.recent()
    await asyncio.sleep(0.02)
    assert lag.recent().largest == pytest.approx(0)
