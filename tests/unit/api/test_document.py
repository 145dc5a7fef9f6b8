"""The task document crosses from controller to runner whole, or is refused with a reason."""

import pytest

from agenttask.api.constants import MAX_DOCUMENT_BYTES
from agenttask.api.document import ModelDocument, TaskDocument, TaskRef, decode, encode
from agenttask.api.errors import InvalidTask
from agenttask.api.steps import Chat, Retrieve, Step, Write
from agenttask.api.task import AgentTaskSpec

SPEC = AgentTaskSpec(
    steps=(
        Step(name="ask", chat=Chat(model="small", prompt="Why?")),
        Step(name="find", needs=(), retrieve=Retrieve(from_="ask", query="x")),
    )
)
DOCUMENT = TaskDocument(
    task=TaskRef(name="t", namespace="n", uid="u"), spec=SPEC, models=(ModelDocument(name="small", client="scripted", model="echo"),)
)


def test_a_document_survives_the_way() -> None:
    assert decode(encode(DOCUMENT)) == DOCUMENT


def test_the_same_document_is_always_the_same_text() -> None:
    assert encode(DOCUMENT) == encode(decode(encode(DOCUMENT)))


def test_a_document_too_large_for_an_annotation_names_the_remedy() -> None:
    steps = tuple(Step(name=f"s{index}", write=Write(path="p", content="x" * 16384)) for index in range(16))
    with pytest.raises(InvalidTask, match=rf"spec: the task document has \d+ bytes, at most {MAX_DOCUMENT_BYTES} fit .* ConfigMap input"):
        encode(TaskDocument(task=DOCUMENT.task, spec=AgentTaskSpec(steps=steps)))


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        pytest.param('{"version":3}', "task document version 3, this runner reads up to 2", id="newer version"),
        pytest.param("{}", "task document version 0", id="no version"),
        pytest.param("nonsense", "the task document is malformed", id="not JSON"),
        pytest.param('{"version":1,"task":{}}', "malformed", id="incomplete"),
    ],
)
def test_what_is_no_document_is_told(raw: str, problem: str) -> None:
    with pytest.raises(InvalidTask, match=problem):
        decode(raw)
