"""What steps hand on is bounded in every part, and failures keep their type where they are told from."""

from typing import Any

import pytest

from agenttask.api.constants import MAX_STEP_TEXT_BYTES
from agenttask.api.errors import AgentTaskError, InvalidTask, OutputTooLarge, RateLimited, StepFailed
from agenttask.plugin.step import StepError, StepOutput
from agenttask.runner.handing_on import Gathered, as_step_error, bounded, located


@pytest.mark.parametrize(
    ("output", "size"),
    [
        (StepOutput(), 0),
        (StepOutput(text="é"), 2),
        (StepOutput(text="a", json=["bcd"]), 7),
        (StepOutput(files={"a": "1234", "b": "56"}), 6),
        (StepOutput(error=StepError(reason="r", message="123")), 3),
    ],
)
def test_the_size_is_that_of_the_largest_part(output: StepOutput, size: int) -> None:
    assert bounded(output) == size


@pytest.mark.parametrize(
    ("output", "what"),
    [
        (StepOutput(text="x" * (MAX_STEP_TEXT_BYTES + 1)), "text has 1048577 bytes"),
        (StepOutput(json="x" * MAX_STEP_TEXT_BYTES), "JSON has 1048578 bytes"),
        (StepOutput(files={"a": "x" * (MAX_STEP_TEXT_BYTES + 1)}), "files have 1048577 bytes"),
    ],
    ids=["text", "JSON", "files"],
)
def test_what_is_too_large_is_refused_with_its_size_and_the_bound(output: StepOutput, what: str) -> None:
    with pytest.raises(OutputTooLarge, match=f"the step's {what}, at most 1048576 can be handed on; write it to a file"):
        bounded(output)


def loop() -> list[Any]:
    """A list that holds itself."""
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "json", [object(), loop(), {1: {2}, "a": object()}, "\ud800"], ids=["object", "loop", "inside", "half a surrogate pair"]
)
def test_json_that_is_none_is_a_typed_failure(json: Any) -> None:
    with pytest.raises(StepFailed, match="the step's `json` is no JSON"):
        bounded(StepOutput(json=json))


def test_a_message_handed_on_is_cut() -> None:
    assert len(as_step_error(StepFailed("x" * 5000)).message) == 1024


@pytest.mark.parametrize(
    "error", [StepFailed("no"), RateLimited("no", retry_after=3.0), InvalidTask("f", "no")], ids=lambda error: type(error).__name__
)
def test_a_located_error_is_the_same_but_for_its_message(error: AgentTaskError) -> None:
    found = located(error, "item 2 of 3")
    assert type(found) is type(error)
    assert (str(found), found.__cause__, found.__dict__) == (f"item 2 of 3: {error}", error, error.__dict__)


def test_gathered_items_keep_their_places_and_name_the_earliest_failure() -> None:
    gathered = Gathered(3)
    gathered.put(2, StepOutput(error=StepError(reason="B", message="late")))
    gathered.put(1, StepOutput(error=StepError(reason="A", message="early")))
    gathered.put(0, StepOutput(text="fine", json=1))
    output = gathered.output()
    assert (output.text, output.json) == ("fine", [1, None, None])
    assert output.error == StepError(reason="A", message="2 of 3 items failed; item 2: early")
    assert [result.text for result in output.results] == ["fine", "", ""]
