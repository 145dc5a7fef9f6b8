"""`exec`: a command, given as argv; no shell reads it. `text` is its standard output, `exitCode` 0.

It runs in its own process group with a clean environment. When it has ended, whatever it left in its group is ended too
(TERM, 5 s, KILL), a daemon included; with `waitFile` only after the file is there, so that a command may hand its work to
the background. Bytes of standard output that are not UTF-8 are replaced, and the log says so.
"""

import asyncio
import contextlib
import os
import shutil
import signal
from pathlib import Path

from agenttask.api.constants import MAX_STEP_TEXT_BYTES
from agenttask.api.errors import InvalidTask, OutOfMemory, OutputTooLarge, StepFailed
from agenttask.plugin.step import StepContext, StepOutput
from agenttask_steps.mask import Mask
from agenttask_steps.oom import ROOT, oom_kills
from agenttask_steps.printed import StandardError, StandardOutput
from agenttask_steps.process import Invocation, ProcessGroup
from agenttask_steps.rendered import RenderedExec
from agenttask_steps.wait_file import AwaitedFile

_PIPE_SECONDS = 1.0
"""How long a process outside of the group may hold the pipes open after the group has ended."""
_SHELL_KILLED = 128 + signal.SIGKILL
"""How a shell tells that its command was killed."""


class ExecStep:
    """Runs one command; `cgroup` is where the container's memory events are counted."""

    schema = RenderedExec

    def __init__(self, cgroup: Path = ROOT) -> None:
        self._cgroup = cgroup

    async def run(self, config: RenderedExec, context: StepContext) -> StepOutput:
        """Run it to its end, and judge how it ended."""
        mask = Mask(context.secrets.values())
        invocation = _invocation(config, context)
        awaited = None if config.wait_file is None else _awaited(config.wait_file.path, context)
        kills = oom_kills(self._cgroup)
        error = StandardError(lambda line: context.log(mask.cover(line)))
        with contextlib.closing(ProcessGroup(invocation)) as group:
            output = StandardOutput(MAX_STEP_TEXT_BYTES, group.kill)
            try:
                await group.connect(output, error)
                code = await group.exited()
                if code == 0 and awaited is not None and config.wait_file is not None:
                    await awaited.wait(config.wait_file.timeout_seconds, stop=lambda: output.overflowed, log=context.log)
            finally:
                await group.end()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PIPE_SECONDS):
                    await output.closed.wait()
                    await error.closed.wait()
        return self._judge(code, output, mask.cover(error.tail()), context, kills=kills)

    def _judge(self, code: int, output: StandardOutput, tail: str, context: StepContext, *, kills: int) -> StepOutput:
        if output.overflowed:
            raise OutputTooLarge(
                f"standard output has more than {MAX_STEP_TEXT_BYTES} bytes, the most that a step may hand on; "
                "let the command write to a file of the workspace"
            )
        if code in (-signal.SIGKILL, _SHELL_KILLED) and oom_kills(self._cgroup) > kills:
            raise OutOfMemory(f"the command was killed for its memory; raise `pod.resources.limits.memory`{_ending(tail)}")
        if code != 0:
            raise StepFailed(f"{_verdict(code)}{_ending(tail)}")
        raw = output.value()
        text = raw.decode("utf-8", "replace")
        if "\ufffd" in text and text.encode() != raw:
            context.log("standard output is not all UTF-8; the bytes that are not were replaced by U+FFFD")
            if len(text.encode()) > MAX_STEP_TEXT_BYTES:
                raise OutputTooLarge("standard output is binary, and too large as text; let the command write to a file of the workspace")
        return StepOutput(text=text, exit_code=code)


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


def _awaited(path: str, context: StepContext) -> AwaitedFile:
    return AwaitedFile(context.files.writable(path), path)


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
