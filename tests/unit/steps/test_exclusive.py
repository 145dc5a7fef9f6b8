"""Commands that would write the same repository, file or folder never run beside each other."""

import asyncio
import re

import pytest
from tests.fakes.step_context import step_context

from agenttask.api.errors import StepFailed
from agenttask.runner.locks import PathLocks
from agenttask_steps import exclusive
from agenttask_steps.exclusive import repository_of
from agenttask_steps.exec import ExecStep
from agenttask_steps.rendered import RenderedExec, RenderedWaitFile

ALONE = "mkdir {0}/busy || exit 9; sleep 0.2; rmdir {0}/busy"
"""Fails where another one is in it."""


async def run(folder, script, held=None, log=None, **fields):
    return await ExecStep().run(RenderedExec(command=("sh", "-c", script), **fields), step_context(folder, locks=held, log=log))


def test_the_nearest_repository_is_that_of_the_folder(tmp_path):
    (tmp_path / "outer/inner/deep").mkdir(parents=True)
    assert repository_of(tmp_path / "outer/inner", tmp_path) is None
    (tmp_path / "outer/.git").mkdir()
    assert repository_of(tmp_path / "outer/inner/deep", tmp_path) == tmp_path / "outer"
    (tmp_path / "outer/inner/.git").write_text("gitdir: ../.git/worktrees/inner")
    assert repository_of(tmp_path / "outer/inner/deep", tmp_path) == tmp_path / "outer/inner"
    assert repository_of(tmp_path / "outer", tmp_path / "outer/inner") is None


def test_a_repository_above_the_workspace_is_none_of_the_tasks(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / "workspace/src").mkdir(parents=True)
    assert repository_of(tmp_path / "workspace/src", tmp_path / "workspace") is None
    (tmp_path / "workspace/.git").mkdir()
    assert repository_of(tmp_path / "workspace/src", tmp_path / "workspace") == tmp_path / "workspace"


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"workdir": "repo/src"}, id="repository"),
        pytest.param({"locks": ("notes", "other")}, id="named path"),
        pytest.param({"locks": ("notes/below", "notes")}, id="paths that hold each other"),
        pytest.param({"wait_file": RenderedWaitFile(path="done")}, id="wait file"),
    ],
)
async def test_steps_with_the_same_path_run_one_after_another(tmp_path, fields):
    (tmp_path / "repo/.git").mkdir(parents=True)
    (tmp_path / "repo/src").mkdir()
    script = ALONE.format(tmp_path) + f"; echo > {tmp_path}/done"
    locks = PathLocks()
    outputs = await asyncio.gather(*(run(tmp_path, script, locks, **fields) for _ in range(3)))
    assert [output.exit_code for output in outputs] == [0, 0, 0]


async def test_steps_in_different_places_run_beside_each_other(tmp_path):
    for name in "ab":
        (tmp_path / name / ".git").mkdir(parents=True)
    meet = 'touch "$PWD/here"; while [ ! -e ../a/here ] || [ ! -e ../b/here ]; do sleep 0.01; done'
    locks = PathLocks()
    async with asyncio.timeout(30):
        await asyncio.gather(*(run(tmp_path, meet, locks, workdir=name) for name in "ab"))


async def test_a_long_wait_is_told_while_it_lasts_and_after(tmp_path, monkeypatch):
    monkeypatch.setattr(exclusive, "LONG_SECONDS", 0.05)
    (tmp_path / ".git").mkdir()
    log: list[str] = []
    locks = PathLocks()
    async with locks.hold(tmp_path.resolve()):
        waiting = asyncio.create_task(run(tmp_path, "echo mine", locks, log.append, locks=("notes",)))
        while not log:  # noqa: ASYNC110 - the log sets no event
            await asyncio.sleep(0.01)
        assert log == ["waits for 'notes', 'the git repository .', which another step has"]
    await waiting
    assert re.fullmatch(r"waited \d+\.\d s for 'notes', 'the git repository \.'", log[1])
    assert log[2:] == ["mine"]


async def test_a_step_that_is_cancelled_while_it_waits_leaves_the_queue(tmp_path):
    (tmp_path / ".git").mkdir()
    locks = PathLocks()
    log: list[str] = []
    async with locks.hold(tmp_path.resolve()):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await run(tmp_path, "touch ran", locks, log.append)
    assert not (tmp_path / "ran").exists()
    await run(tmp_path, "touch ran", locks, log.append)
    assert log == []


async def test_a_lock_outside_of_the_workspace_is_refused(tmp_path):
    with pytest.raises(StepFailed, match="outside"):
        await run(tmp_path, "touch ran", locks=("../x",))
    assert not (tmp_path / "ran").exists()
