"""What the built-in steps and the runner declare as Python code that computes runs in another process as it stands."""

import functools
from array import array

import pytest
from tests.fakes.step_context import step_context

from agenttask.domain.rendering import render_tree
from agenttask.plugin.step import Collection, Passage, StepOutput
from agenttask.plugin.threading import WorkKind
from agenttask_steps import retrieve
from agenttask_steps.asking import judge
from agenttask_steps.nearest import nearest
from agenttask_steps.passages import split
from agenttask_threading.importable import packed
from agenttask_threading.processes import ProcessPool

VALUES = {"params": {"a": "b"}, "steps": {"s": {"text": "x" * 100_000, "json": [1, {"k": None}], "files": {}, "results": []}}, "attempt": 1}
WORK = {
    "split": (split, "one\n\ntwo", 64),
    "nearest": (nearest, array("f", [1.0, 0.0]), (array("f", [0.0, 1.0]), array("f", [2.0, 0.0])), 1),
    "judge": (judge, '{"a": 1}', {"type": "object", "required": ["b"]}),
    "render": (functools.partial(render_tree, {"prompt": "{{ params.a }} {{ steps.s.text }}"}, VALUES, field="spec.steps[0].chat"),),
}


async def test_its_result_is_the_same_there():
    pool = ProcessPool(1)
    for name, (function, *args) in WORK.items():
        assert await pool.run(function, *args) == function(*args), name
    await pool.drain(5)


@pytest.mark.parametrize("name", WORK)
def test_it_can_be_sent(name: str):
    function, *args = WORK[name]
    assert packed(function, args)


@pytest.mark.parametrize(("vectors", "kind"), [(3, WorkKind.PYTHON_CPU), (5000, WorkKind.NATIVE_CPU)])
async def test_a_large_collection_stays_in_this_process(tmp_path, vectors: int, kind: WorkKind):
    class Model:
        async def embed(self, texts):
            from agenttask.plugin.llm import Embeddings, Usage

            return Embeddings(vectors=tuple(array("f", [1.0] * 64) for _ in texts), usage=Usage())

    collection = Collection(model="m", passages=(Passage(text="p", source="s"),) * vectors, vectors=(array("f", [1.0] * 64),) * vectors)
    context = step_context(tmp_path, models={"m": Model()}, outputs={"docs": StepOutput(collection=collection)})  # type: ignore[dict-item]  # it only embeds
    output = await retrieve.RetrieveStep().run(retrieve.RenderedRetrieve(from_="docs", query="q", top_k=1), context)
    assert (output.text, context.threads.kinds) == ("p", [kind])  # type: ignore[attr-defined]  # the fake remembers
