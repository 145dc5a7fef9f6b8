"""What safetensors say of themselves: how many numbers, which types, whether all are there; no numbers are read."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttask.api.errors import ModelRejected
from agenttask_models.checkpoint import check_dtypes, read_checkpoint
from agenttask_models.folder import ModelFolder


def safetensors(path, *tensors, data: int | None = None) -> None:
    """A file with these tensors (dtype, shape, end of its numbers), and `data` bytes after the header."""
    header = {f"t{at}": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]} for at, (dtype, shape, end) in enumerate(tensors)}
    raw = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    size = max([end for *_, end in tensors], default=0) if data is None else data
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(size))


def test_numbers_and_types_are_counted_over_all_files(tmp_path):
    safetensors(tmp_path / "1.safetensors", ("F32", [2, 3], 24), ("BF16", [50], 100))
    safetensors(tmp_path / "2.safetensors", ("F32", [], 4), ("F32", [0, 9], 0))
    found = ModelFolder(path=tmp_path).checkpoint()
    assert (found.parameters, found.dtypes) == (57, ("BF16", "F32"))


def test_other_weights_are_another_digest(tmp_path):
    safetensors(tmp_path / "a.safetensors", ("F32", [2], 8))
    first = read_checkpoint(tmp_path).digest
    assert read_checkpoint(tmp_path).digest == first
    (tmp_path / "config.json").write_text("{}")
    second = read_checkpoint(tmp_path).digest
    safetensors(tmp_path / "a.safetensors", ("F32", [3], 12))
    assert len({first, second, read_checkpoint(tmp_path).digest}) == 3


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 8,
        b"\xff" * 16,
        (4).to_bytes(8, "little") + b"junk",
        (2).to_bytes(8, "little") + b"[]",
        (8).to_bytes(8, "little") + b'{"a": 1}',
        (40).to_bytes(8, "little") + b'{"a":{"shape":[1],"data_offsets":[0]}}  ',
    ],
    ids=["empty", "no header", "huge header", "no json", "list", "no shape", "no end"],
)
def test_what_is_no_safetensors_file_is_refused(tmp_path, raw):
    (tmp_path / "model.safetensors").write_bytes(raw)
    with pytest.raises(ModelRejected, match="is no safetensors file"):
        read_checkpoint(tmp_path)


@settings(deadline=None)  # a busy machine is no failure
@given(st.integers(0, 99))
def test_a_cut_file_is_told_before_its_pages_are_mapped(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cut")
    safetensors(folder / "model.safetensors", ("F32", [25], 100), data=data)
    with pytest.raises(ModelRejected, match=r"is cut: it has \d+ bytes, its header promises \d+; copy or download it again"):
        read_checkpoint(folder)


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(ModelRejected, match=r"model\.safetensors cannot be read: Is a directory; check the file's mode and owner"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("dtypes", "problem"),
    [
        (["F32", "I64"], None),
        (["BF16"], None),
        (["F8_E4M3", "F32"], "type F8_E4M3"),
        (["I8", "F16"], "type I8"),
        (["I64"], "type I64"),
        ([], "type none"),
    ],
    ids=["with a buffer", "bfloat16", "8 bits", "quantised", "no weights", "nothing"],
)
def test_weights_that_are_no_plain_numbers_are_refused_by_their_type(tmp_path, dtypes, problem):
    safetensors(tmp_path / "model.safetensors", *((dtype, [1], 8) for dtype in dtypes))
    found = read_checkpoint(tmp_path)
    if problem is None:
        check_dtypes(found, "model 'm'")
        return
    with pytest.raises(ModelRejected, match=f"model 'm' has weights of {problem}; loaded are F64, F32, F16, BF16"):
        check_dtypes(found, "model 'm'")
