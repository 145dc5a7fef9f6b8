"""What a checkpoint holds: within its bound, faithful, and what gives way first."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttask.api.checkpoint import Checkpoint, KeptFile, KeptItem, KeptOutput, KeptStep, decode, encode
from agenttask.api.steps import Step
from agenttask.plugin.step import Collection, Passage, StepOutput
from agenttask.runner.checkpoint_shelf import Head, Shelf

HEAD = Head(version=1, task="u-1", spec="0" * 64, runner="0.1.0", attempt=2)
KINDS: dict[str, dict[str, Any]] = {
    "read": {"read": {"paths": ["x"]}},
    "chat": {"chat": {"model": "m", "prompt": "p"}},
    "exec": {"exec": {"command": ["x"]}},
    "embed": {"embed": {"model": "m", "texts": ["x"]}},
    "retrieve": {"retrieve": {"from": "embed", "query": "x"}},
    "fetch": {"fetch": {"url": "https://x"}},
}
STEPS = [msgspec.convert({"name": name, **kind}, Step) for name, kind in KINDS.items()]
FILES = (KeptFile(path="f", content=b"f"),)


def shelf(limit: int = 900 * 1024, log: list[tuple[str, str]] | None = None) -> Shelf:
    lines: list[tuple[str, str]] = [] if log is None else log
    return Shelf(HEAD, STEPS, log=lambda about, line: lines.append((about, line)), limit=limit)


def test_the_document_is_a_checkpoint_of_all_that_was_put_in() -> None:
    found = shelf()
    found.step_ended("chat", StepOutput(text="a", json={"x": 1}, exit_code=0), None)
    found.step_ended("exec", StepOutput(text="b"), FILES)
    found.step_skipped("read", "its when is false")
    found.item_ended("fetch", 3, "1" * 64, StepOutput(text="i"), FILES)
    assert decode(found.document()) == Checkpoint(
        task="u-1",
        spec="0" * 64,
        runner="0.1.0",
        attempt=2,
        steps=(
            KeptStep(name="chat", output=KeptOutput(text="a", json={"x": 1}, exit_code=0)),
            KeptStep(name="exec", output=KeptOutput(text="b"), files=FILES),
            KeptStep(name="read", skipped="its when is false"),
        ),
        items=(KeptItem(step="fetch", index=3, value="1" * 64, output=KeptOutput(text="i"), files=FILES),),
    )


def test_an_ended_step_takes_the_place_of_its_items() -> None:
    found = shelf()
    found.item_ended("chat", 0, "1" * 64, StepOutput(text="i"), None)
    found.item_ended("chat", 0, "1" * 64, StepOutput(text="again"), None)
    found.item_ended("exec", 0, "1" * 64, StepOutput(text="i"), None)
    found.step_ended("chat", StepOutput(results=(StepOutput(text="i"),)), None)
    document = decode(found.document())
    assert ([step.name for step in document.steps], [item.step for item in document.items]) == (["chat"], ["exec"])


def test_what_an_earlier_checkpoint_has_is_taken_along() -> None:
    earlier = decode(encode(Checkpoint(task="u-1", spec="0" * 64, runner="0", steps=(KeptStep(name="chat", output=KeptOutput(text="a")),))))
    found = shelf()
    item = KeptItem(step="exec", index=0, value="1" * 64, output=KeptOutput(text="i"))
    found.seed([*earlier.steps, KeptStep(name="read", dropped="large")], [item])
    document = decode(found.document())
    assert document.steps == (*earlier.steps, KeptStep(name="read", dropped="large"))
    assert (document.items, document.runner) == ((item,), "0.1.0")


def deep(levels: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        pytest.param(StepOutput(json=float("nan")), "JSON cannot carry", id="no-number"),
        pytest.param(StepOutput(json={1: 2}), "JSON cannot carry", id="key-is-a-number"),
        pytest.param(StepOutput(json=object()), "cannot be told as JSON: TypeError", id="an-object"),
        pytest.param(StepOutput(text="\ud800"), "cannot be told as JSON: Unicode", id="half-a-pair"),
        pytest.param(StepOutput(json=deep(5000)), "cannot be told as JSON: RecursionError", id="deep"),
        pytest.param(StepOutput(text="x" * 1_000_000), "1000000 characters", id="large"),
        pytest.param(
            StepOutput(collection=Collection(model="m", passages=(Passage(text="p", source="s"),), vectors=())),
            "malformed",
            id="no-vectors",
        ),
        pytest.param(
            StepOutput(collection=Collection(model="m", passages=(Passage(text="p", source="s"),), vectors=([0.5] * 70_000,))),
            "280000 bytes",
            id="large-collection",
        ),
    ],
)
def test_what_would_not_come_back_as_it_was_is_left_out_and_told(output: StepOutput, problem: str) -> None:
    log: list[tuple[str, str]] = []
    found = shelf(log=log)
    found.step_ended("chat", output, None)
    found.item_ended("exec", 0, "1" * 64, output, None)
    document = decode(found.document())
    assert [(step.name, step.output, problem in (step.dropped or "")) for step in document.steps] == [("chat", None, True)]
    assert document.items == ()
    assert [about for about, line in log if problem in line] == ["step chat", "step exec"]


def test_what_is_cheap_to_do_again_gives_way_first_and_of_that_the_largest() -> None:
    found = shelf(limit=30_000)
    for name in ("chat", "fetch", "retrieve", "read", "embed"):
        found.step_ended(name, StepOutput(text=name[0] * 5_000), None)
    found.item_ended("exec", 0, "1" * 64, StepOutput(text="i" * 12_000), None)
    document = decode(found.document())
    assert {step.name: step.dropped is None for step in document.steps} == {
        "chat": True,
        "fetch": True,
        "embed": True,
        "retrieve": False,
        "read": False,
    }
    found.item_ended("exec", 1, "1" * 64, StepOutput(text="i" * 20_000), None)
    document = decode(found.document())
    assert [step.name for step in document.steps if step.dropped is None] == ["chat"]
    assert [item.index for item in document.items] == [0]


def test_of_a_long_list_the_beginning_is_kept_and_one_line_told() -> None:
    log: list[tuple[str, str]] = []
    found = shelf(limit=20_000, log=log)
    for index in range(200):
        found.item_ended("chat", index, "1" * 64, StepOutput(text="x" * (300 + index)), None)
    kept = [item.index for item in decode(found.document()).items]
    assert kept == list(range(len(kept)))
    assert 10 < len(kept) < 100
    assert [about for about, _ in log] == ["step chat"]


pieces = st.tuples(st.sampled_from([*KINDS]), st.none() | st.integers(0, 3), st.integers(0, 9_000))


@settings(max_examples=100, deadline=None)
@given(st.lists(pieces, max_size=30))
def test_it_never_grows_over_its_bound_and_never_breaks(found: list[tuple[str, int | None, int]]) -> None:
    kept = shelf(limit=20_000)
    ended = set()
    for name, item, size in found:
        if name in ended:
            continue
        if item is None:
            ended.add(name)
            kept.step_ended(name, StepOutput(text="x" * size), None)
        else:
            kept.item_ended(name, item, "1" * 64, StepOutput(text="x" * size), None)
        raw = kept.document()
        assert len(raw) <= 20_000
        assert {step.name for step in decode(raw).steps} == ended
