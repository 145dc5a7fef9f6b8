"""Outputs in a checkpoint and back."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask.api.checkpoint import CheckpointRefused, KeptCollection, KeptOutput, KeptPassage
from agenttask.plugin.step import Collection, Passage, StepError, StepOutput
from agenttask.runner.kept_output import TooLargeToKeep, kept, unkept

json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=3),
    max_leaves=5,
)
text = st.text(st.characters(codec="utf-8"), max_size=20)
flat = st.builds(
    StepOutput,
    text=text,
    json=json,
    files=st.dictionaries(text, text, max_size=2),
    exit_code=st.none() | st.integers(-64, 255),
    error=st.none() | st.builds(StepError, reason=st.just("StepFailed"), message=text),
)
outputs = st.builds(lambda output, results: msgspec.structs.replace(output, results=tuple(results)), flat, st.lists(flat, max_size=3))


@given(outputs)
def test_every_output_comes_back_through_json(output: StepOutput) -> None:
    raw = msgspec.json.encode(kept(output))
    assert unkept(msgspec.json.decode(raw, type=KeptOutput)) == output


def collection(count: int, width: int) -> Collection:
    passages = tuple(Passage(text=f"p{index}", source="s") for index in range(count))
    return Collection(model="m", passages=passages, vectors=tuple([index + 0.5] * width for index in range(count)))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_collection_comes_back(count: int) -> None:
    found = unkept(kept(StepOutput(collection=collection(count, 4)))).collection
    assert found is not None
    assert (found.model, found.passages) == ("m", collection(count, 4).passages)
    assert [list(vector) for vector in found.vectors] == [list(vector) for vector in collection(count, 4).vectors]


def test_vectors_are_kept_as_precisely_as_models_compute() -> None:
    found = unkept(kept(StepOutput(collection=Collection(model="m", passages=(Passage(text="p", source="s"),), vectors=([0.1],)))))
    assert found.collection is not None
    assert math.isclose(found.collection.vectors[0][0], 0.1, rel_tol=1e-7)


def test_a_large_collection_is_not_kept() -> None:
    with pytest.raises(TooLargeToKeep, match="its 100 vectors have 400000 bytes, at most 262144"):
        kept(StepOutput(collection=collection(100, 1000)))


def test_numbers_that_no_model_computes_are_not_kept() -> None:
    with pytest.raises(TooLargeToKeep, match="no 32-bit floats"):
        kept(StepOutput(collection=Collection(model="m", passages=(Passage(text="p", source="s"),), vectors=([1e39],))))


@pytest.mark.parametrize(("dimensions", "size"), [(1, 0), (0, 0), (0, 4), (2, 4)])
def test_a_collection_that_is_none_is_refused(dimensions: int, size: int) -> None:
    hostile = KeptCollection(model="m", dimensions=dimensions, passages=(KeptPassage(text="p", source="s"),), vectors=b"\0" * size)
    with pytest.raises(CheckpointRefused, match="one vector a passage"):
        unkept(KeptOutput(collection=hostile))
