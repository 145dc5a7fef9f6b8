"""`waitFile`: the step waits for a file that the command, or what it left in the background, makes."""

import asyncio
import time

import pytest
import watchfiles
from tests.fakes.step_context import step_context

from agenttask.api.errors import InvalidTask, StepFailed
from agenttask_steps.exec import ExecStep
from agenttask_steps.rendered import RenderedExec, RenderedWaitFile

SCHEMA = {"type": "object", "required": ["ok"]}


async def run(folder, script, path="done.json", seconds=60, log=None, **content):
    config = RenderedExec(command=("sh", "-c", script), wait_file=RenderedWaitFile(path=path, timeout_seconds=seconds, **content))
    return await ExecStep().run(config, step_context(folder, log=log))


async def test_a_file_that_the_command_made_is_enough(tmp_path):
    assert (await run(tmp_path, "echo {} > done.json; echo ok")).text == "ok\n"


async def test_a_background_process_may_make_it_and_is_then_ended(tmp_path):
    output = await run(tmp_path, "(sleep 0.3; echo {} > done.json; sleep 97.41) & echo ok")
    assert output.text == "ok\n"


async def test_a_folder_on_the_way_may_come_later(tmp_path):
    await run(tmp_path, "(sleep 0.2; mkdir -p a/b; sleep 0.2; touch a/b/done) &", path="a/b/done")


async def test_one_that_never_comes_fails_the_step_in_time(tmp_path):
    started = time.monotonic()
    with pytest.raises(StepFailed, match=r"^wait file 'done.json' did not appear within 1 s$"):
        await run(tmp_path, "true", seconds=1)
    assert time.monotonic() - started < 4


async def test_one_from_before_does_not_count(tmp_path):
    (tmp_path / "done.json").write_text("{}")
    with pytest.raises(StepFailed, match="the one that is there is from before the command"):
        await run(tmp_path, "true", seconds=1)


async def test_one_from_before_counts_when_it_is_written_again(tmp_path):
    (tmp_path / "done.json").write_text("{}")
    await run(tmp_path, "(sleep 0.2; echo {} > done.json) &")


async def test_a_folder_of_that_name_does_not_count(tmp_path):
    with pytest.raises(StepFailed, match="did not appear"):
        await run(tmp_path, "mkdir done.json", seconds=1)


async def test_a_failed_command_is_not_waited_for(tmp_path):
    with pytest.raises(StepFailed, match=r"^exited 3$"):
        await run(tmp_path, "exit 3", seconds=60)


async def test_a_path_outside_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(StepFailed, match="outside"):
        await run(tmp_path, "touch ran", path="../done.json")
    assert not (tmp_path / "ran").exists()


async def test_polling_works_where_notifications_do_not(tmp_path, monkeypatch):
    monkeypatch.setenv("WATCHFILES_FORCE_POLLING", "true")
    await run(tmp_path, "(sleep 0.3; touch done.json) &")


async def test_a_watch_that_fails_is_replaced_by_looking(tmp_path, monkeypatch):
    def refuse(*_paths, **_options):
        raise OSError(28, "inotify watch limit reached")

    log: list[str] = []
    monkeypatch.setattr(watchfiles, "awatch", refuse)
    await run(tmp_path, "(sleep 0.3; touch done.json) &", log=log.append)
    assert "inotify watch limit reached" in log[0]


async def test_too_much_output_ends_the_waiting(tmp_path):
    from agenttask.api.errors import OutputTooLarge

    with pytest.raises(OutputTooLarge):
        async with asyncio.timeout(10):
            await run(tmp_path, "(sleep 0.3; yes) & true", seconds=60)


async def test_a_time_may_come_from_a_template(tmp_path):
    assert (await run(tmp_path, "touch done.json", seconds="5")).exit_code == 0
    with pytest.raises(StepFailed, match=r"^exec.waitFile.timeoutSeconds: 'soon' is no whole number of seconds from 1 to 604800$"):
        await run(tmp_path, "touch ran", seconds="soon")
    assert not (tmp_path / "ran").exists()


async def test_half_a_file_is_waited_for_and_its_json_is_the_steps(tmp_path):
    script = """(printf '{"ok": tr' > done.json; sleep 0.3; printf 'ue, "n": 3}' >> done.json; sleep 97.45) & echo started"""
    output = await run(tmp_path, script, seconds=60, json_schema=SCHEMA)
    assert (output.text, output.json) == ("started\n", {"ok": True, "n": 3})


async def test_a_file_with_another_text_is_waited_for(tmp_path):
    output = await run(tmp_path, "echo working > done.json; (sleep 0.3; echo DONE >> done.json) &", seconds=60, contains="DONE")
    assert output.json is None


async def test_a_file_that_is_replaced_in_place_is_looked_at_again(tmp_path):
    script = "echo '{\"ok\": 1 }' > done.json; cp done.json new; (sleep 0.3; echo '{\"xx\": 1 }' > x; mv new done.json) &"
    assert (await run(tmp_path, f"echo nothing > done.json; {script}", seconds=60, json_schema=SCHEMA)).json == {"ok": 1}


@pytest.mark.parametrize(
    ("script", "content", "problem"),
    [
        ("echo '{\"ok\"' > done.json", {"json_schema": SCHEMA}, "it is no JSON: Input data was truncated"),
        ("echo '{}' > done.json", {"json_schema": SCHEMA}, r"it does not fit jsonSchema: \$: 'ok' is a required property"),
        ("echo working > done.json", {"contains": "DONE"}, "it does not contain 'DONE'"),
        ("ln -s /etc/passwd done.json", {"contains": "DONE"}, "it cannot be read: Too many levels of symbolic links"),
    ],
)
async def test_at_the_time_out_the_error_says_what_was_wrong_with_the_content(tmp_path, script, content, problem):
    with pytest.raises(StepFailed, match=f"^wait file 'done.json' was there, but not right within 1 s: {problem}"):
        await run(tmp_path, script, seconds=1, **content)


async def test_a_schema_that_is_none_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(InvalidTask, match=r"exec.waitFile.jsonSchema.type"):
        await run(tmp_path, "touch ran", json_schema={"type": "objekt"})
    assert not (tmp_path / "ran").exists()


async def test_the_content_is_looked_at_where_files_cannot_be_watched(tmp_path, monkeypatch):
    def refuse(*_paths, **_options):
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(watchfiles, "awatch", refuse)
    script = "echo working > done.json; (sleep 0.3; echo DONE >> done.json) &"
    assert (await run(tmp_path, script, seconds=60, contains="DONE")).exit_code == 0
