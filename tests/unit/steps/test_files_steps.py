"""`read` and `write`."""

import asyncio

import pytest
from tests.fakes.step_context import step_context

from agenttask.api.constants import MAX_STEP_TEXT_BYTES
from agenttask.api.errors import OutputTooLarge, StepFailed
from agenttask.runner.locks import PathLocks
from agenttask_steps.handing_on import name_of
from agenttask_steps.read import ReadStep
from agenttask_steps.rendered import RenderedRead, RenderedWrite
from agenttask_steps.write import WriteStep


async def read(folder, *paths):
    return await ReadStep().run(RenderedRead(paths=paths), step_context(folder))


async def test_one_file_is_its_text(tmp_path):
    (tmp_path / "a.md").write_text("grüße\n")
    output = await read(tmp_path, "a.md")
    assert (output.text, output.files) == ("grüße\n", {"a.md": "grüße\n"})


async def test_several_are_joined_in_the_order_of_the_paths(tmp_path):
    for name in ("b.md", "a.md", "c.txt"):
        (tmp_path / name).write_text(name[0])
    output = await read(tmp_path, "c.txt", "*.md", "a.*")
    assert (output.text, list(output.files)) == ("c\na\nb", ["c.txt", "a.md", "b.md"])


async def test_what_is_not_there_fails_the_step(tmp_path):
    with pytest.raises(StepFailed, match=r"missing\.md"):
        await read(tmp_path, "missing.md")
    with pytest.raises(StepFailed, match="matches no file"):
        await read(tmp_path, "*.none")


async def test_together_they_may_not_be_too_large(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text("x" * (MAX_STEP_TEXT_BYTES // 2))
    with pytest.raises(OutputTooLarge, match=f"together more than {MAX_STEP_TEXT_BYTES} bytes"):
        await read(tmp_path, "a", "b")


async def test_writing_gives_the_name_that_later_steps_can_use(tmp_path):
    output = await WriteStep().run(RenderedWrite(path="out/a.md", content="new"), step_context(tmp_path))
    assert (output.text, (tmp_path / "out/a.md").read_text()) == ("out/a.md", "new")


async def test_writing_outside_fails_the_step(tmp_path):
    with pytest.raises(StepFailed, match="outside"):
        await WriteStep().run(RenderedWrite(path="../a.md", content=""), step_context(tmp_path))


@pytest.mark.parametrize(
    ("path", "name"),
    [("/workspace/a/b", "a/b"), ("/real/a", "a"), ("/inputs/repo/a", "/inputs/repo/a")],
    ids=["as-the-task-names-it", "as-it-lies", "input"],
)
def test_files_are_called_as_the_task_calls_them(tmp_path, path, name):
    from pathlib import Path

    assert name_of(Path(path), Path("/real")) == name


async def test_writing_waits_for_whoever_holds_the_path(tmp_path):
    locks = PathLocks()
    async with locks.hold(tmp_path.resolve()):
        writing = asyncio.create_task(WriteStep().run(RenderedWrite(path="a", content="x"), step_context(tmp_path, locks=locks)))
        await asyncio.sleep(0.05)
        assert not (tmp_path / "a").exists()
    await asyncio.wait_for(writing, 30)
    assert (tmp_path / "a").read_text() == "x"
