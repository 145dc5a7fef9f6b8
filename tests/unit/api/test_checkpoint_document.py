"""The checkpoint as a document: what is read, and what is refused with which reason."""

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask.api import checkpoint as format_
from agenttask.api.checkpoint import (
    MAX_CHECKPOINT_BYTES,
    Checkpoint,
    CheckpointRefused,
    KeptCollection,
    KeptError,
    KeptFile,
    KeptItem,
    KeptOutput,
    KeptPassage,
    KeptStep,
    belongs,
    decode,
    encode,
    spec_digest,
)
from agenttask.api.task import AgentTaskSpec

SPEC = "0" * 64
FULL = Checkpoint(
    task="u-1",
    spec=SPEC,
    runner="0.1.0",
    attempt=3,
    steps=(
        KeptStep(
            name="a",
            output=KeptOutput(text="t", json={"x": [1]}, files={"f": "c"}, exit_code=0, error=KeptError(reason="StepFailed", message="m")),
            files=(KeptFile(path="d/e", content=b"\x00\xff", executable=True),),
        ),
        KeptStep(name="b", skipped="its when is false"),
        KeptStep(name="c", dropped="too large"),
        KeptStep(
            name="d",
            output=KeptOutput(
                collection=KeptCollection(model="m", dimensions=1, passages=(KeptPassage(text="p", source="s"),), vectors=b"\0\0\0\0")
            ),
        ),
    ),
    items=(KeptItem(step="e", index=0, value=SPEC, output=KeptOutput(text="one")),),
)


def altered(**fields: Any) -> bytes:
    body = json.loads(encode(FULL))
    body.update(fields)
    return json.dumps(body).encode()


def test_a_checkpoint_comes_back_as_it_was() -> None:
    assert decode(encode(FULL)) == FULL


def test_a_newer_version_is_refused_with_who_wrote_it_and_what_to_do() -> None:
    with pytest.raises(CheckpointRefused) as refused:
        decode(json.dumps({"version": 2, "runner": "0.9.0", "shape": "unknown"}).encode())
    assert str(refused.value) == (
        "the checkpoint has version 2 and was written by runner '0.9.0'; this runner reads up to version 1: "
        "use that runner or a newer one to go on from it"
    )


def test_an_older_version_is_read_through_its_own_decoder() -> None:
    decoders = {0: lambda raw: msgspec.structs.replace(FULL, runner=json.loads(raw)["by"]), 1: decode}
    assert decode(b'{"version": 0, "by": "0.0.9"}', decoders=decoders) == msgspec.structs.replace(FULL, runner="0.0.9")


def test_a_version_that_is_not_read_any_more_is_refused() -> None:
    with pytest.raises(CheckpointRefused, match=r"version 0 and was written by runner 'unknown'; this runner does not read that any more"):
        decode(b'{"version": 0}')


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        pytest.param(b"", "malformed", id="nothing"),
        pytest.param(b"\xff\xfe", "malformed", id="no-text"),
        pytest.param(b"[]", "malformed", id="no-object"),
        pytest.param(b"{}", "malformed", id="no-version"),
        pytest.param(encode(FULL)[:-10], "malformed", id="cut"),
        pytest.param(altered(version="1"), "malformed", id="version-as-text"),
        pytest.param(altered(surprise=1), "surprise", id="unknown-field"),
        pytest.param(altered(attempt=0), "attempt", id="attempt-0"),
        pytest.param(altered(spec="x"), "spec", id="no-digest"),
        pytest.param(altered(steps=[{"name": "a"}]), "exactly one", id="step-without-end"),
        pytest.param(altered(steps=[{"name": "a", "skipped": "s", "dropped": "d"}]), "exactly one", id="step-with-two-ends"),
        pytest.param(altered(steps=[{"name": "a", "skipped": "s"}] * 2), "twice", id="step-twice"),
        pytest.param(altered(steps=[{"name": "../a", "skipped": "s"}]), "steps", id="step-with-a-bad-name"),
        pytest.param(altered(items=[{"step": "e", "index": 0, "value": SPEC, "output": {}}] * 2), "twice", id="item-twice"),
        pytest.param(altered(items=[{"step": "a", "index": 0, "value": SPEC, "output": {}}]), "beside its ended step", id="item-of-ended"),
        pytest.param(altered(items=[{"step": "e", "index": -1, "value": SPEC, "output": {}}]), "items", id="item-before-the-first"),
        pytest.param(
            altered(steps=[{"name": "a", "output": {"results": [{"results": [{"text": "x"}]}]}}]), "items of its own", id="items-of-items"
        ),
        pytest.param(
            encode(FULL).replace(b'"json":{"x":[1]}', b'"results":' + b'[{"results":' * 600 + b"[]" + b"}]" * 600),
            "malformed",
            id="deep-items",
        ),
        pytest.param(b'{"version":1,"task":' + b"[" * 100_000, "malformed", id="deep"),
        pytest.param(b" " * (MAX_CHECKPOINT_BYTES + 1), "at most 921600", id="large"),
    ],
)
def test_hostile_bytes_are_refused(raw: bytes, problem: str) -> None:
    with pytest.raises(CheckpointRefused, match=problem):
        decode(raw)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_checkpoint_or_refused(raw: bytes) -> None:
    with pytest.raises(CheckpointRefused):
        decode(raw)


@given(st.integers(0, len(encode(FULL)) - 1), st.integers(0, 255))
def test_any_damage_is_read_or_refused(place: int, byte: int) -> None:
    raw = bytearray(encode(FULL))
    raw[place] = byte
    with contextlib.suppress(CheckpointRefused):
        assert isinstance(decode(bytes(raw)), Checkpoint)


def spec(**fields: Any) -> AgentTaskSpec:
    body = {"steps": [{"name": "a", "read": {"paths": ["x"]}}], "params": {"p": "1", "q": "2"}, **fields}
    return msgspec.convert(body, AgentTaskSpec)


def test_the_digest_follows_what_the_steps_do_and_nothing_else() -> None:
    same = [spec(), spec(params={"q": "2", "p": "1"}), spec(activeDeadlineSeconds=5), spec(execution={"maxWorkers": 3})]
    other = [
        spec(params={}),
        spec(output="x"),
        spec(inputs=[{"name": "i", "configMap": {"name": "c"}}]),
        spec(steps=[{"name": "a", "read": {"paths": ["y"]}}]),
    ]
    assert len({spec_digest(each) for each in same}) == 1
    assert len({spec_digest(each) for each in [spec(), *other]}) == 5


def test_a_checkpoint_of_another_task_or_spec_is_refused() -> None:
    belongs(FULL, task="u-1", spec=SPEC)
    with pytest.raises(CheckpointRefused, match="of task 'u-1', this one is 'u-2'"):
        belongs(FULL, task="u-2", spec=SPEC)
    with pytest.raises(CheckpointRefused, match=r"of another spec \(000000000000, this one is 111111111111\): steps, params"):
        belongs(FULL, task="u-1", spec="1" * 64)


def test_the_digest_of_a_value_does_not_hang_on_the_order_of_keys() -> None:
    assert format_.digest({"a": 1, "b": [2]}) == format_.digest({"b": [2], "a": 1})
