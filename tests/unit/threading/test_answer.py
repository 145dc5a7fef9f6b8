"""Answers of other processes hold values and nothing that acts."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import os
import pickle
import subprocess
import uuid
from array import array
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agenttask.api.errors import InvalidTask
from agenttask.plugin.step import Passage
from agenttask_threading.answer import Answer


@dataclasses.dataclass
class Point:
    x: int


class Colour(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    a: int
    b: int


VALUES = [
    [1, 2.5, "three", b"four", None, True, (5,), {"six": {7}}, frozenset({8}), bytearray(b"9"), 1j, range(3)],
    [array("f", [1.0]), dt.datetime.now(dt.UTC), dt.timedelta(1), decimal.Decimal("1.5"), uuid.uuid4(), Path("/x")],
    [Passage(text="t", source="s"), Point(1), Colour.RED, Pair(1, 2), collections.OrderedDict(a=1), collections.deque([1])],
]


@pytest.mark.parametrize("value", VALUES, ids=["builtins", "standard", "classes"])
def test_values_come_back(value: Any):
    assert Answer(pickle.dumps((True, value))).given() == value


def test_an_exception_is_raised_with_its_traceback_as_its_cause():
    with pytest.raises(InvalidTask, match="a: b") as caught:
        Answer(pickle.dumps((False, InvalidTask("a", "b"), "there"))).given()
    assert str(caught.value.__cause__) == '\n"""\nthere"""'


class Acting:
    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("value", "named"),
    [
        pytest.param(Acting(os.system, "touch acted"), "posix.system", id="function"),
        pytest.param(Acting(subprocess.Popen, ["touch", "acted"]), "subprocess.Popen", id="class that acts"),
        pytest.param(Acting(eval, "1"), "builtins.eval", id="eval"),
        pytest.param(Acting(getattr, 1, "real"), "builtins.getattr", id="getattr"),
        pytest.param(os.system, "posix.system", id="a function as a value"),
    ],
)
def test_what_acts_is_not_taken(value: Any, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TypeError, match=f"not taken: it holds {named}; return plain values"):
        Answer(pickle.dumps((True, value))).given()
    assert list(tmp_path.iterdir()) == []


def test_a_module_is_never_imported_for_it():
    raw = b"\x80\x04\x8c\x0bantigravity\x8c\x01x\x93."
    with pytest.raises(TypeError, match=r"it holds antigravity\.x"):
        Answer(raw).given()


def test_what_is_no_pickle_is_not_taken():
    with pytest.raises(TypeError, match="not taken"):
        Answer(b"\xff\xff").given()
