"""A step is exactly one kind, and knows its fields as on the wire."""

import pytest

from agenttask.api.errors import InvalidTask
from agenttask.api.reasons import TERMINAL_REASONS, WAITING_REASONS, Phase, Reason
from agenttask.api.steps import Chat, PluginStep, Read, Retrieve, Step


def test_a_steps_kind_is_the_field_that_is_set() -> None:
    assert Step(name="a", read=Read(paths=("x",))).kind == "read"


def test_a_plugin_steps_kind_is_the_plugins_own() -> None:
    step = Step(name="a", plugin=PluginStep(kind="word-count", with_={"text": "x"}))
    assert (step.kind, step.config) == ("word-count", {"text": "x"})


def test_a_config_has_the_names_of_the_wire() -> None:
    assert Step(name="a", retrieve=Retrieve(from_="docs", query="q", top_k=2)).config == {"from": "docs", "query": "q", "topK": 2}


@pytest.mark.parametrize(
    ("step", "given"),
    [
        pytest.param(Step(name="a"), "none is given", id="none"),
        pytest.param(Step(name="a", read=Read(paths=("x",)), chat=Chat(model="m", prompt="p")), "read and chat is given", id="two"),
    ],
)
def test_any_other_number_of_kinds_is_refused(step: Step, given: str) -> None:
    with pytest.raises(InvalidTask, match=f"step 'a': exactly one of .* is needed, {given}"):
        _ = step.kind


def test_every_reason_is_described_by_a_sentence() -> None:
    assert [reason for reason in Reason if not reason.describe().endswith(".")] == []


def test_no_reason_is_both_waiting_and_terminal() -> None:
    assert set(WAITING_REASONS) & set(TERMINAL_REASONS) == set()


def test_only_the_three_ends_are_terminal() -> None:
    assert [phase for phase in Phase if phase.terminal] == [Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED]
