"""`exec`: a command, given as argv; no shell reads it. `text` is its standard output, `exitCode` 0.

It runs in its own process group with a clean environment, and what it prints is logged line by line. Before it starts it
waits until no other step has its git repository, its wait file or a path in `locks`. When it has ended, whatever it left
is ended too (TERM, 5 s, KILL), a daemon included; with `waitFile` only after the file is there and right, so that a command
may hand its work to the background. Bytes of standard output that are not UTF-8 are replaced, and the log says so.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
from pathlib import Path

from agenttask.api.constants import MAX_STEP_TEXT_BYTES
from agenttask.api.errors import InvalidTask, OutOfMemory, OutputTooLarge, StepFailed
from agenttask.domain.machine_limits import DISK_REMEDY
from agenttask.domain.seconds import as_seconds
from agenttask.plugin.step import StepContext, StepOutput
from agenttask.plugin.threading import WorkKind
from agenttask_steps.content import Content, inspect
from agenttask_steps.exclusive import held, repository_of
from agenttask_steps.handing_on import name_of
from agenttask_steps.json_schema import check_schema
from agenttask_steps.lines import Allowance, LineLog
from agenttask_steps.mask import Mask, MaskedStream
from agenttask_steps.oom import ROOT, oom_kills
from agenttask_steps.printed import End, ErrorTail, Pipe, Shown, Whole
from agenttask_steps.process import Invocation, ProcessGroup
from agenttask_steps.rendered import RenderedExec, RenderedWaitFile
from agenttask_steps.wait_file import AwaitedFile

_PIPE_SECONDS = 1.0
"""How long a process that could not be ended may hold the pipes open."""
_SHELL_KILLED = 128 + signal.SIGKILL
"""How a shell tells that its command was killed."""
_MARK_BYTES = 16


class ExecStep:
    """Runs one command; `cgroup` is where the container's memory events are counted."""

    schema = RenderedExec

    def __init__(self, cgroup: Path = ROOT) -> None:
        self._cgroup = cgroup

    async def run(self, config: RenderedExec, context: StepContext) -> StepOutput:
        """Run it to its end, and judge how it ended."""
        invocation = await context.threads.run(WorkKind.BLOCKING_IO, _invocation, config, context)
        seconds = 0 if config.wait_file is None else as_seconds(config.wait_file.timeout_seconds, field="exec.waitFile.timeoutSeconds")
        content = None if config.wait_file is None else _content(config.wait_file)
        own = await context.threads.run(WorkKind.BLOCKING_IO, _own, config, context, invocation.folder)
        async with held(context.locks, own, context.log):
            awaited = None if config.wait_file is None else _awaited(config.wait_file.path, content, context)
            return await self._run(config, context, invocation, awaited, seconds)

    async def _run(
        self, config: RenderedExec, context: StepContext, invocation: Invocation, awaited: AwaitedFile | None, seconds: int
    ) -> StepOutput:
        mask = Mask(context.secrets.values())
        clock = asyncio.get_running_loop().time
        kills = oom_kills(self._cgroup)
        error = ErrorTail()
        value = None
        with contextlib.closing(ProcessGroup(invocation)) as group:
            output = Whole(MAX_STEP_TEXT_BYTES, group.kill) if config.output == "Whole" else End()
            pipes = [Pipe(Shown(MaskedStream(mask), LineLog(context.log, Allowance(clock))), keep.add) for keep in (output, error)]
            try:
                await group.connect(*pipes)
                code = await group.exited()
                if code == 0 and awaited is not None:
                    value = await awaited.wait(seconds, stop=lambda: output.overflowed, log=context.log)
            finally:
                await group.end()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PIPE_SECONDS):
                    for pipe in pipes:
                        await pipe.closed.wait()
        if output.overflowed:
            raise OutputTooLarge(
                f"standard output has more than {MAX_STEP_TEXT_BYTES} bytes, the most that a step may hand on; "
                "let the command write to a file of the workspace, or keep the end only (`output: Tail`)"
            )
        self._check(code, error.value(), invocation, kills=kills)
        return StepOutput(text=_text(output, context), json=value, exit_code=code)

    def _check(self, code: int, tail: str, invocation: Invocation, *, kills: int) -> None:
        if code in (-signal.SIGKILL, _SHELL_KILLED) and oom_kills(self._cgroup) > kills:
            raise OutOfMemory(f"the command was killed for its memory; raise `pod.resources.limits.memory`{_ending(tail)}")
        if code != 0:
            raise StepFailed(f"{_verdict(code)}{_no_space(invocation)}{_ending(tail)}")


def _text(output: Whole | End, context: StepContext) -> str:
    raw, before = output.value()
    text = raw.decode("utf-8", "replace")
    if "\ufffd" in text and text.encode() != raw:
        context.log("standard output is not all UTF-8; the bytes that are not were replaced by U+FFFD")
        if len(text.encode()) > MAX_STEP_TEXT_BYTES:
            raise OutputTooLarge("standard output is binary, and too large as text; let the command write to a file of the workspace")
    return before + text


def _own(config: RenderedExec, context: StepContext, folder: Path) -> dict[Path, str]:
    """The paths that the command has to itself, each as the log calls it."""
    paths = {context.files.writable(path): path for path in config.locks}
    if config.wait_file is not None:
        paths[context.files.writable(config.wait_file.path)] = config.wait_file.path
    repository = repository_of(folder, context.workspace)
    if repository is not None:
        paths[repository] = "the git repository " + name_of(repository, context.workspace)
    return paths


def _content(config: RenderedWaitFile) -> Content | None:
    if config.json_schema is not None:
        check_schema(config.json_schema, "exec.waitFile.jsonSchema")
    if config.json_schema is None and not config.contains:
        return None
    return Content(contains=config.contains, json_schema=config.json_schema)


def _invocation(config: RenderedExec, context: StepContext) -> Invocation:
    folder = context.files.readable(config.workdir) if config.workdir else context.workspace
    if not folder.is_dir():
        raise StepFailed(f"workdir {config.workdir!r} is no folder; make it first, for instance with a `write` step into it")
    environment = {**context.environment, **_variables(config, context)}
    argv = tuple(config.command)
    for index, word in enumerate(argv):
        if "\0" in word:
            raise StepFailed(f"command[{index}] holds a NUL character; no argument can")
    return Invocation(
        argv=(_program(argv[0], environment.get("PATH", os.defpath), folder), *argv[1:]),
        environment=environment,
        folder=folder,
        stdin=config.stdin.encode("utf-8", "surrogatepass"),
        mark=secrets.token_hex(_MARK_BYTES),
    )


def _variables(config: RenderedExec, context: StepContext) -> dict[str, str]:
    variables = {}
    for variable in config.env:
        if variable.secret_key_ref is None:
            value = variable.value or ""
        elif variable.name in context.secrets:
            value = context.secrets[variable.name]
        else:
            raise InvalidTask("exec.env", f"the secret for {variable.name!r} was not handed to this step")
        if "\0" in value:
            raise StepFailed(f"variable {variable.name!r} holds a NUL character; no variable can")
        variables[variable.name] = value
    return variables


def _program(name: str, search_path: str, folder: Path) -> str:
    """The program's path: with a slash it is relative to the working folder, without one it is looked for in PATH.

    Raises:
        StepFailed: there is none, or it is not executable.
    """
    if not name:
        raise StepFailed("command[0] is empty; name a program")
    if "/" in name:
        path = folder / name
        if not path.exists():
            raise StepFailed(f"command {name!r} is not there (looked for as {str(path)!r})")
        if not path.is_file() or not os.access(path, os.X_OK):
            raise StepFailed(f"command {name!r} is not executable; `chmod +x` it, or run it with its interpreter")
        return str(path)
    found = shutil.which(name, path=search_path)
    if found is not None:
        return found
    if shutil.which(name, mode=os.F_OK, path=search_path) is not None:
        raise StepFailed(f"command {name!r} is not executable; PATH is {search_path}")
    raise StepFailed(f"command {name!r} is not found; PATH is {search_path}; use an image that has it (`pod.image`)")


def _awaited(path: str, content: Content | None, context: StepContext) -> AwaitedFile:
    return AwaitedFile(
        context.files.writable(path), path, content, lambda file, wanted: context.threads.run(WorkKind.BLOCKING_IO, inspect, file, wanted)
    )


def _no_space(invocation: Invocation) -> str:
    """Where a disk is full that the command writes to: what it says itself is often something else."""
    environment = invocation.environment
    for folder in (invocation.folder, *(Path(environment[name]) for name in ("HOME", "TMPDIR") if environment.get(name))):
        with contextlib.suppress(OSError):
            if os.statvfs(folder).f_bavail == 0:
                return f" (no space is left on the disk; {DISK_REMEDY})"
    return ""


def _verdict(code: int) -> str:
    if code > 0:
        return f"exited {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _ending(tail: str) -> str:
    """The last line of standard error first, as status may show only the beginning; then all that is known of it."""
    if not tail:
        return ""
    lines = tail.splitlines()
    return f": {lines[-1].strip()}" + (f"\nstandard error ended with:\n{tail}" if len(lines) > 1 else "")
