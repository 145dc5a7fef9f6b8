"""A time-out for a beginning."""

import asyncio

import pytest
from tests.fakes.virtual_time import in_virtual_time, loop_time

from agenttask.api.errors import ModelUnavailable
from agenttask_llm.deadline import Deadline


def late() -> ModelUnavailable:
    return ModelUnavailable("late")


@in_virtual_time
async def test_what_begins_in_time_may_take_longer() -> None:
    async with Deadline(5, late) as deadline:
        await asyncio.sleep(4)
        deadline.met()
        deadline.met()
        await asyncio.sleep(100)
    assert loop_time() == 104


@in_virtual_time
async def test_what_does_not_begin_in_time_is_late() -> None:
    with pytest.raises(ModelUnavailable, match="late"):
        async with Deadline(5, late):
            await asyncio.sleep(100)
    assert loop_time() == 5


@in_virtual_time
async def test_without_a_number_there_is_no_deadline() -> None:
    async with Deadline(None, late) as deadline:
        await asyncio.sleep(1000)
        deadline.met()


@in_virtual_time
async def test_another_error_is_passed_on() -> None:
    with pytest.raises(ValueError, match="theirs"):
        async with Deadline(5, late):
            raise ValueError("theirs")
