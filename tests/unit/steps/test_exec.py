"""The `exec` kind: commands that end well, badly, late, or not at all; none leaves a process."""

import asyncio
import contextlib
import gc
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop
from tests.fakes.step_context import step_context

from agenttask.api.constants import MAX_STEP_TEXT_BYTES
from agenttask.api.errors import InvalidTask, OutOfMemory, OutputTooLarge, StepFailed
from agenttask_steps import process
from agenttask_steps.exec import ExecStep
from agenttask_steps.printed import TAIL_BYTES
from agenttask_steps.rendered import RenderedExec, RenderedVariable, RenderedWaitFile


async def run(folder: Path, *command: str, context=None, kind=None, **fields):
    return await (kind or ExecStep()).run(RenderedExec(command=command, **fields), context or step_context(folder))


def living(text: str) -> list[int]:
    """Processes whose command line holds `text`; zombies have none."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if text.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


async def until(met: Callable[[], bool]) -> None:
    """Wait for what another process does, which sets no event here."""
    while not met():  # noqa: ASYNC110 - see above
        await asyncio.sleep(0.02)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_standard_output_is_the_text(tmp_path):
    output = await run(tmp_path, "printf", "a\\nb")
    assert (output.text, output.exit_code) == ("a\nb", 0)


async def test_no_shell_reads_the_arguments(tmp_path):
    assert (await run(tmp_path, "printf", "%s", "$HOME; `id` > x")).text == "$HOME; `id` > x"
    assert list(tmp_path.iterdir()) == []


async def test_standard_input_is_given_and_need_not_be_read(tmp_path):
    assert (await run(tmp_path, "cat", stdin="grüße")).text == "grüße"
    assert (await run(tmp_path, "true", stdin="x" * MAX_STEP_TEXT_BYTES)).text == ""
    assert (await run(tmp_path, "cat")).text == ""


async def test_the_environment_is_clean_and_has_what_the_step_names(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "runner's own")
    context = step_context(tmp_path, environment={"HOME": "/h"}, secrets={"KEY": "s3cret"})
    variables = (RenderedVariable(name="A", value="1"), RenderedVariable(name="KEY", secret_key_ref={"name": "n", "key": "k"}))
    lines = (await run(tmp_path, "env", context=context, env=variables)).text.splitlines()
    assert re.fullmatch("AGENTTASK_STEP_RUN=[0-9a-f]{32}", lines.pop())
    assert sorted(lines) == ["A=1", "HOME=/h", "KEY=s3cret", "LANG=C.UTF-8", "PATH=/usr/local/bin:/usr/bin:/bin"]


async def test_a_secret_that_was_not_handed_over_is_named(tmp_path):
    with pytest.raises(InvalidTask, match="'KEY'"):
        await run(tmp_path, "env", env=(RenderedVariable(name="KEY", secret_key_ref={"name": "n", "key": "k"}),))


async def test_it_runs_in_its_workdir(tmp_path):
    (tmp_path / "sub").mkdir()
    assert (await run(tmp_path, "pwd", workdir="sub")).text == f"{tmp_path.resolve()}/sub\n"
    with pytest.raises(StepFailed, match="workdir 'none' is no folder"):
        await run(tmp_path, "pwd", workdir="none")


async def test_it_leads_its_own_session(tmp_path):
    text = (await run(tmp_path, "sh", "-c", "ps -o pid=,pgid=,sid= -p $$")).text
    assert len(set(text.split())) == 1


async def test_an_exit_code_fails_the_step_with_the_last_line_of_standard_error(tmp_path):
    log: list[str] = []
    with pytest.raises(StepFailed) as caught:
        await run(tmp_path, "sh", "-c", "echo first >&2; echo last >&2; exit 3", context=step_context(tmp_path, log=log.append))
    assert str(caught.value) == "exited 3: last\nstandard error ended with:\nfirst\nlast"
    assert log == ["first", "last"]


async def test_a_silent_failure_tells_its_exit_code(tmp_path):
    with pytest.raises(StepFailed, match=r"^exited 1$"):
        await run(tmp_path, "false")


async def test_a_signal_is_named(tmp_path):
    with pytest.raises(StepFailed, match=r"^killed by SIGSEGV$"):
        await run(tmp_path, "sh", "-c", "kill -SEGV $$")
    with pytest.raises(StepFailed, match=r"^killed by (SIGRTMIN|signal 34|signal 35)$"):
        await run(tmp_path, "sh", "-c", "kill -35 $$")


async def test_secrets_are_covered_in_log_and_error(tmp_path):
    log: list[str] = []
    context = step_context(tmp_path, secrets={"KEY": "s3cret-value\n"}, log=log.append)
    with pytest.raises(StepFailed, match=r"^exited 1: bad key \*\*\*$"):
        await run(tmp_path, "sh", "-c", "echo bad key s3cret-value >&2; exit 1", context=context)
    assert log == ["bad key ***"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("no-such-command", r"'no-such-command' is not found; PATH is /usr/local/bin:/usr/bin:/bin"),
        ("./missing.sh", r"'./missing.sh' is not there"),
        ("./plain.txt", r"'./plain.txt' is not executable"),
        ("./no-interpreter", r"cannot be started: No such file"),
        ("./binary", r"cannot be started: Exec format error"),
        ("", r"command\[0\] is empty"),
        ("a\0b", r"command\[0\] holds a NUL"),
    ],
    ids=["not-in-path", "missing", "not-executable", "no-interpreter", "no-program", "empty", "nul"],
)
async def test_what_cannot_be_started_says_why(tmp_path, command, message):
    (tmp_path / "plain.txt").write_text("x")
    for name, content in (("no-interpreter", b"#!/no/such/interpreter\n"), ("binary", b"\x00\x01\x02")):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o755)
    with pytest.raises(StepFailed, match=message):
        await run(tmp_path, command)


async def test_a_file_in_path_that_is_not_executable_is_told_apart(tmp_path):
    (tmp_path / "tool").write_text("x")
    with pytest.raises(StepFailed, match="'tool' is not executable; PATH is"):
        await run(tmp_path, "tool", context=step_context(tmp_path, environment={"PATH": str(tmp_path)}))


async def test_a_script_beside_it_is_found(tmp_path):
    (tmp_path / "tool.sh").write_text("#!/bin/sh\necho ran $0\n")
    (tmp_path / "tool.sh").chmod(0o755)
    assert (await run(tmp_path, "./tool.sh")).text.startswith("ran ")


async def test_a_variable_with_nul_is_refused(tmp_path):
    with pytest.raises(StepFailed, match="'A' holds a NUL"):
        await run(tmp_path, "env", env=(RenderedVariable(name="A", value="x\0y"),))


async def test_a_hundred_megabytes_neither_grow_memory_nor_run_on(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(OutputTooLarge, match="write to a file"):
        await run(tmp_path, "sh", "-c", "yes overflowing | head -c 100000000; sleep 97.31")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024
    assert living("97.31") == []


async def test_a_hundred_megabytes_of_standard_error_do_not_grow_memory(tmp_path):
    log: list[str] = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    output = await run(tmp_path, "sh", "-c", "yes noise | head -c 20000000 >&2; echo fine", context=step_context(tmp_path, log=log.append))
    assert output.text == "fine\n"
    assert any(re.fullmatch(r"\[\d{4,} lines left out: the command prints faster than is logged\]", line) for line in log)
    assert "fine" in log[-2:]
    assert len(log) < 10_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


async def test_exactly_the_limit_is_handed_on(tmp_path):
    output = await run(tmp_path, "head", "-c", str(MAX_STEP_TEXT_BYTES), "/dev/zero")
    assert len(output.text) == MAX_STEP_TEXT_BYTES


async def test_bytes_that_are_not_utf8_are_replaced_and_said_so(tmp_path):
    log: list[str] = []
    output = await run(tmp_path, "printf", "a\\377b", context=step_context(tmp_path, log=log.append))
    assert output.text == "a\ufffdb"
    assert "not all UTF-8" in log[-1]


async def test_binary_that_grows_as_text_is_too_large(tmp_path):
    with pytest.raises(OutputTooLarge, match="binary"):
        await run(tmp_path, "sh", "-c", f"head -c {MAX_STEP_TEXT_BYTES} /dev/zero | tr '\\0' '\\377'")


async def test_cancelling_ends_the_whole_group(tmp_path):
    task = asyncio.ensure_future(run(tmp_path, "sh", "-c", "sleep 97.32 & sleep 97.32"))
    await until(lambda: len(living("97.32")) >= 3)
    task.cancel()
    started = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 4
    assert living("97.32") == []


async def test_who_ignores_term_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "KILL_AFTER_SECONDS", 0.3)
    task = asyncio.ensure_future(run(tmp_path, "sh", "-c", "trap '' TERM; touch ready; while :; do sleep 97.33; done"))
    await until((tmp_path / "ready").exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert living("97.33") == []


async def test_a_second_cancellation_kills_at_once(tmp_path):
    task = asyncio.ensure_future(run(tmp_path, "sh", "-c", "trap '' TERM; touch ready; while :; do sleep 97.34; done"))
    await until((tmp_path / "ready").exists)
    task.cancel()
    await asyncio.sleep(0.1)
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 4.5
    assert living("97.34") == []


async def test_a_time_out_of_the_step_reaps_the_command(tmp_path):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await run(tmp_path, "sleep", "97.35")
    assert living("97.35") == []


async def test_what_a_command_leaves_in_its_group_is_ended(tmp_path):
    started = time.monotonic()
    output = await run(tmp_path, "sh", "-c", "sleep 97.36 & echo done")
    assert output.text == "done\n"
    assert living("97.36") == []
    assert time.monotonic() - started < 3


DAEMON = """
import os, sys, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN if sys.argv[1] == "stubborn" else signal.SIG_DFL)
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
open(sys.argv[2], "w").write(str(os.getpid()))
time.sleep(600)
"""


def started(path: Path) -> bool:
    return path.exists() and path.read_text() != ""


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("nature", ["obedient", "stubborn"])
async def test_a_daemon_that_left_the_group_is_ended_with_the_step(tmp_path, monkeypatch, nature):
    monkeypatch.setattr(process, "KILL_AFTER_SECONDS", 0.3)
    script = f"{sys.executable} -c '{DAEMON}' {nature} pid; while [ ! -s pid ]; do sleep 0.01; done; echo done"
    output = await run(tmp_path, "sh", "-c", script)
    assert output.text == "done\n"
    assert not lives(int((tmp_path / "pid").read_text()))


async def test_the_daemon_of_a_step_beside_it_is_left_alone(tmp_path):
    script = f"{sys.executable} -c '{DAEMON}' obedient daemon; while [ ! -e go ]; do sleep 0.01; done; echo done"
    slow = asyncio.ensure_future(run(tmp_path, "sh", "-c", script))
    await until(lambda: started(tmp_path / "daemon"))
    daemon = int((tmp_path / "daemon").read_text())
    assert (await run(tmp_path, "sh", "-c", "setsid sleep 97.42 & echo quick")).text == "quick\n"
    assert (lives(daemon), living("97.42")) == (True, [])
    (tmp_path / "go").touch()
    assert (await slow).text == "done\n"
    assert not lives(daemon)


async def test_cancelling_ends_daemons_too(tmp_path):
    task = asyncio.ensure_future(run(tmp_path, "sh", "-c", f"{sys.executable} -c '{DAEMON}' stubborn pid; sleep 97.43"))
    await until(lambda: started(tmp_path / "pid"))
    task.cancel()
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not lives(int((tmp_path / "pid").read_text()))
    assert living("97.43") == []


async def test_what_is_printed_is_logged_line_by_line_while_it_runs(tmp_path):
    log: list[str] = []
    script = "echo out one; echo err one >&2; echo out two; while [ ! -e go ]; do sleep 0.01; done; printf 'the rest'"
    task = asyncio.ensure_future(run(tmp_path, "sh", "-c", script, context=step_context(tmp_path, log=log.append)))
    await until(lambda: len(log) == 3)
    assert sorted(log) == ["err one", "out one", "out two"]
    (tmp_path / "go").touch()
    assert (await task).text == "out one\nout two\nthe rest"
    assert log[3:] == ["the rest"]


async def test_a_secret_on_standard_output_is_covered_in_the_log_and_handed_on(tmp_path):
    log: list[str] = []
    context = step_context(tmp_path, secrets={"KEY": "s3cret-value"}, log=log.append)
    script = "printf 'it is s3cr'; sleep 0.1; echo et-value"
    assert (await run(tmp_path, "sh", "-c", script, context=context)).text == "it is s3cret-value\n"
    assert log == ["it is ***"]


async def test_the_tail_of_much_output_is_kept(tmp_path):
    output = await run(tmp_path, "sh", "-c", "seq 1 1000000", output="Tail")
    first, _, rest = output.text.partition("\n")
    whole = "".join(f"{number}\n" for number in range(1, 1_000_001))
    assert len(rest) == TAIL_BYTES
    assert whole.endswith(rest)
    assert first == f"[{len(whole) - len(rest)} bytes before this were cut]"


async def test_the_tail_of_little_output_is_all_of_it(tmp_path):
    assert (await run(tmp_path, "printf", "grüße", output="Tail")).text == "grüße"


async def test_a_full_disk_is_told_beside_what_the_command_says(tmp_path, monkeypatch):
    with pytest.raises(StepFailed, match=r"^exited \d: .*No space left on device"):
        await run(tmp_path, "sh", "-c", "dd if=/dev/zero of=/dev/full bs=1 count=1 status=none")
    real = os.statvfs
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((*real(path)[:4], 0, *real(path)[5:])))
    with pytest.raises(StepFailed, match=r"^exited 1 \(no space is left on the disk; write less, or raise `workspace.sizeLimit`\)$"):
        await run(tmp_path, "false", context=step_context(tmp_path, environment={"HOME": "/nowhere"}))


@contextlib.contextmanager
def few_descriptors(free: int):
    """This process may open `free` more."""
    gc.collect()  # what earlier tests left behind would be closed in between
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(highest + 1 - descriptors() + 1):  # fill the gaps
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(int(e.name) for e in Path("/proc/self/fd").iterdir()) + free, hard))
        yield


@pytest.mark.parametrize("free", [0, 1, 2, 3, 4, 5, 6])
async def test_no_file_descriptors_left_is_a_typed_error_and_no_process(tmp_path, free):
    with few_descriptors(free), contextlib.suppress(StepFailed):
        await run(tmp_path, "sh", "-c", "sleep 0.1; echo 97.44", stdin="x")
    assert living("97.44") == []
    assert (await run(tmp_path, "echo", "again")).text == "again\n"


async def test_without_any_descriptor_it_says_so(tmp_path):
    with few_descriptors(0), pytest.raises(StepFailed, match=r"Too many open files; lower `execution.maxConcurrentSteps`"):
        await run(tmp_path, "true", stdin="x")


async def test_no_zombie_and_no_descriptor_is_left(tmp_path):
    await run(tmp_path, "true")
    before = descriptors()
    for _ in range(20):
        await run(tmp_path, "true", stdin="x")
    assert descriptors() <= before + 1
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # noqa: ASYNC222 - does not wait


async def test_a_kill_for_memory_is_told_as_such(tmp_path):
    (tmp_path / "memory.events").write_text("oom 0\noom_kill 1\n")
    kind = ExecStep(tmp_path)
    with pytest.raises(OutOfMemory, match=r"raise `pod.resources.limits.memory`"):
        await run(tmp_path, "sh", "-c", "printf 'oom_kill 2\\n' > memory.events; kill -KILL $$", kind=kind)
    with pytest.raises(OutOfMemory):
        await run(tmp_path, "sh", "-c", "printf 'oom_kill 3\\n' > memory.events; exit 137", kind=kind)
    with pytest.raises(StepFailed, match=r"^killed by SIGKILL$"):
        await run(tmp_path, "sh", "-c", "kill -KILL $$", kind=kind)


async def test_without_pidfd_the_end_is_found_by_looking(tmp_path, monkeypatch):
    def refuse(_pid):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert (await run(tmp_path, "sh", "-c", "sleep 0.2; echo late")).text == "late\n"


async def test_many_at_once_do_not_mix(tmp_path):
    outputs = await asyncio.gather(*(run(tmp_path, "sh", "-c", f"echo {number}") for number in range(16)))
    assert [output.text for output in outputs] == [f"{number}\n" for number in range(16)]


def test_all_of_it_works_on_uvloop(tmp_path):
    async def scenario():
        assert (await run(tmp_path, "cat", stdin="x")).text == "x"
        wait = RenderedWaitFile(path="done", timeout_seconds=60)
        assert (await run(tmp_path, "sh", "-c", "(sleep 0.2; touch done; sleep 97.38) & echo ok", wait_file=wait)).text == "ok\n"
        with pytest.raises(OutputTooLarge):
            await run(tmp_path, "sh", "-c", "yes; sleep 97.38")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await run(tmp_path, "sh", "-c", "sleep 97.38 & sleep 97.38")
        with pytest.raises(StepFailed, match="exited 3: why"):
            await run(tmp_path, "sh", "-c", "echo why >&2; exit 3")

    uvloop.run(scenario())
    assert living("97.38") == []


_ADOPTING = """
import asyncio, ctypes, os, sys
from pathlib import Path
from agenttask_steps.exec import ExecStep
from agenttask_steps.rendered import RenderedExec
from tests.fakes.step_context import step_context
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
command = ("sh", "-c", "(sleep 97.39 & sleep 97.39) & echo ok")
print(asyncio.run(ExecStep().run(RenderedExec(command=command), step_context(Path(sys.argv[1])))).text, end="")
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child is left")
"""


def test_where_orphans_are_adopted_they_are_reaped(tmp_path):
    here = Path(__file__).parents[3]
    path = os.pathsep.join(str(here / folder) for folder in ("operator", "plugins", "."))
    ran = subprocess.run(
        [sys.executable, "-c", _ADOPTING, str(tmp_path)], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=60
    )
    assert (ran.stdout, ran.stderr) == ("ok\nno child is left\n", "")


async def test_a_pipe_that_cannot_be_watched_leaves_no_process(tmp_path, monkeypatch):
    def refuse(_descriptor, _callback):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", refuse)
    with pytest.raises(StepFailed, match="what the command prints cannot be read: Too many open files"):
        await run(tmp_path, "sleep", "97.40")
    assert living("97.40") == []
