"""git as a process: one clean environment, no prompt, no hook, no configuration but ours.

Nothing that a task gives becomes an option: values stand behind `--`, are attached to their option, or are hashes that
`rev-parse` made of them. The folder that is HOME for one step holds the configuration, which has no secret in it.
"""

import asyncio
import contextlib
import re
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

from agenttask.api.errors import AgentTaskError, OutputTooLarge, ServiceUnavailable, StepFailed
from agenttask.plugin.step import StepContext
from agenttask.plugin.threading import WorkKind
from agenttask_steps.mask import Mask
from agenttask_steps.process import Invocation, ProcessGroup

_CONFIGURATION = "[safe]\n\tdirectory = *\n"
"""A volume's files may belong to another user. In a file, since git does not hand settings of its environment to its other half."""
_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.askPass": "",
    "core.sshCommand": "false",
    "core.quotePath": "false",
    "commit.gpgSign": "false",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "credential.helper": "",
    "http.proxy": "",
    "http.followRedirects": "false",
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": "60",
}
"""They win over the repository's own. A redirect would leave the host that was checked; a minute of silence is long enough."""
_OUTPUT_BYTES = 1 << 20
_TAIL_BYTES = 4096
_PIPE_SECONDS = 1.0
_PASSING = re.compile(
    r"could not resolve host|connection (refused|reset|timed out)|failed to connect|couldn't connect|timed out|operation too slow|early eof"
    r"|unexpected disconnect|empty reply|returned error: (408|429|5\d\d)|temporarily unavailable",
    re.IGNORECASE,
)
"""What git says of a server or a network that may be better later; it has one exit code for everything."""
_REDIRECT = re.compile(r"returned error: 30\d|from redirection", re.IGNORECASE)
_COMPLAINTS = 3


class Git:
    """Runs git for one step; `settings` and `environment` are what the step adds to ours."""

    def __init__(
        self,
        program: str,
        home: Path,
        context: StepContext,
        *,
        settings: Mapping[str, str],
        environment: Mapping[str, str],
        mask: Mask,
    ) -> None:
        self.home = home
        """A folder of the step's own; it is removed when the step ends."""
        self._program = program
        self._context = context
        self._mask = mask
        self._settings = {**_SETTINGS, **settings}
        self._environment = {
            "PATH": context.environment.get("PATH", ""),
            "LC_ALL": "C.UTF-8",
            "HOME": str(home),
            "TMPDIR": str(home),
            "GIT_CONFIG_GLOBAL": str(home / "config"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "true",
            "GIT_PROTOCOL_FROM_USER": "0",
            "GIT_ALLOW_PROTOCOL": "none",
            "GIT_CEILING_DIRECTORIES": str(context.workspace.parent),
            **environment,
        }

    def override(self, settings: Mapping[str, str]) -> None:
        """Further settings, from now on."""
        self._settings |= settings

    async def run(
        self,
        *arguments: str,
        folder: Path,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        also: tuple[int, ...] = (),
    ) -> tuple[int, bytes]:
        """The exit code and what git prints; its standard error goes to the log, masked.

        Args:
            *arguments: the command and its arguments.
            folder: where.
            stdin: what it reads.
            environment: more variables.
            also: exit codes besides 0 that are no failure.

        Raises:
            StepFailed, ServiceUnavailable: git failed.
            OutputTooLarge: it printed more than a step may hand on.
        """
        for argument in arguments:
            if "\0" in argument:
                raise StepFailed("an argument for git holds a NUL character; none can")
        invocation = Invocation(
            argv=(self._program, *arguments),
            environment={**self._environment, **_configured(self._settings), **(environment or {})},
            folder=folder,
            stdin=stdin,
            mark=secrets.token_hex(8),
        )
        with contextlib.closing(ProcessGroup(invocation)) as group:
            output, error = _Kept(_OUTPUT_BYTES, group.kill), _Kept(_TAIL_BYTES, None)
            try:
                await group.connect(output, error)
                code = await group.exited()
            finally:
                await group.end()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PIPE_SECONDS):
                    await output.closed.wait()
                    await error.closed.wait()
        if output.overflowed:
            raise OutputTooLarge(f"git {arguments[0]} prints more than {_OUTPUT_BYTES} bytes, the most that a step may hand on")
        said = self._mask.cover(error.kept.decode("utf-8", "replace")).strip()
        for line in said.splitlines():
            self._context.log(f"git: {line}")
        if code != 0 and code not in also:
            raise _failure(arguments[0], code, said)
        return code, bytes(output.kept)


@contextlib.asynccontextmanager
async def git_for(
    context: StepContext,
    *,
    settings: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    hidden: Sequence[str] = (),
) -> AsyncIterator[Git]:
    """git, with a home of its own for as long as the step runs; `hidden` never shows in log or error.

    Raises:
        StepFailed: this image has none.
    """
    search_path = context.environment.get("PATH", "")
    program = shutil.which("git", path=search_path)
    if program is None:
        raise StepFailed(f"git is not found; PATH is {search_path}; use an image that has it (`pod.image`), as the runner images do")
    home = Path(tempfile.mkdtemp(dir=context.environment.get("TMPDIR"), prefix="git-"))
    try:
        (home / "config").write_text(_CONFIGURATION)
        mask = Mask((*context.secrets.values(), *hidden))
        yield Git(program, home, context, settings=settings or {}, environment=environment or {}, mask=mask)
    finally:
        await context.threads.run(WorkKind.BLOCKING_IO, remove, str(home))


def _configured(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings as git takes them from its environment, where they are neither in an argument nor in a file."""
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for index, (key, value) in enumerate(settings.items()):
        variables |= {f"GIT_CONFIG_KEY_{index}": key, f"GIT_CONFIG_VALUE_{index}": value}
    return variables


def remove(folder: str) -> None:
    """Remove a folder with all that is in it, if it is there; blocking."""
    shutil.rmtree(folder, ignore_errors=True)


class _Kept(asyncio.Protocol):
    """What comes through a pipe: up to `limit` bytes, then `too_much` is called; without it, the last `limit` bytes."""

    def __init__(self, limit: int, too_much: Callable[[], None] | None) -> None:
        self._limit = limit
        self._too_much = too_much
        self.kept = bytearray()
        self.overflowed = False
        self.closed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        """Keep it, within the bound."""
        if self.overflowed:
            return
        self.kept += data
        if len(self.kept) > self._limit:
            if self._too_much is None:
                del self.kept[: -self._limit]
            else:
                self.overflowed = True
                self.kept.clear()
                self._too_much()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """Every writer has closed the pipe."""
        self.closed.set()


def _failure(command: str, code: int, said: str) -> AgentTaskError:
    """The error, with git's own last complaint first."""
    complaints = [line for line in said.splitlines() if line.startswith(("fatal:", "error:"))] or said.splitlines()[-1:]
    how = f"was killed by signal {-code}" if code < 0 else f"exited {code}"
    why = f": {'; '.join(complaints[:_COMPLAINTS])}" if complaints else ""
    hint = "; redirects are not followed: give the URL that it leads to, often the one with .git" if _REDIRECT.search(said) else ""
    what = f"git {command} {how}{why}{hint}"
    return ServiceUnavailable(what) if _PASSING.search(said) else StepFailed(what)
