"""The controller as a process of its own, behind its own proxy; what dies is started again, as a Deployment does."""

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from tests.faults.control_plane import kubeconfig
from tests.faults.eventually import PATIENCE, eventually
from tests.faults.launching import Launch, Process, by_exec

READY: Final = "ready: "
_SETTINGS: Final = ("probePort=0", "logging.format=text", "images.runner=runner:1", "images.runnerTorch=runner:1")


class ControllerProcess:
    """Runs, is killed, runs again. `restarts` says how often it ended by itself, `kills` how often we ended it.

    `launch` starts a process; `environ` is for variables of this controller alone.
    """

    def __init__(
        self,
        folder: Path,
        server: str,
        token: str,
        namespaces: tuple[str, ...],
        *settings: str,
        name: str = "controller",
        launch: Launch = by_exec,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._folder, self._namespaces, self._launch, self._environ = folder, namespaces, launch, dict(environ or {})
        self.settings = settings
        """What its next life is set to, beside what all controllers here are."""
        self.log_file = folder / f"{name}.log"
        self.token_file = folder / f"{name}.token"
        self.token_file.write_text(token)
        self._kubeconfig = folder / f"{name}.yaml"
        self._kubeconfig.write_text(kubeconfig(server, {"tokenFile": str(self.token_file)}))
        self._process: Process | None = None
        self._wanted = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        self._begins = 0
        """Where in the log its current life begins."""
        self.kills = self.restarts = self.starts = 0
        self.exits: list[int] = []
        """With what it ended by itself, each time."""

    async def __aenter__(self) -> Self:
        self.log_file.touch()
        self._supervisor = asyncio.create_task(self._supervise())
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    @property
    def log(self) -> str:
        """All that it said, over all its lives."""
        return self.log_file.read_text(errors="replace")

    @property
    def pid(self) -> int:
        """Its process, while it has one."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Run, from now on."""
        self._wanted.set()

    async def ready(self, seconds: float = PATIENCE) -> None:
        """Wait until it decides: the current life has all its lists."""

        async def there() -> bool:
            assert self.restarts < 5, f"it does not stay alive: {self.log[-3000:]}"
            return self.decides()

        await eventually(there, seconds, "the controller's view")

    def decides(self) -> bool:
        """Whether the current life has all its lists and leads."""
        running = self._process is not None and self._process.returncode is None
        return running and READY.encode() in self.log_file.read_bytes()[self._begins :]

    async def kill(self) -> None:
        """SIGKILL; the supervisor starts it again unless it was stopped."""
        process = self._process
        if process is not None and process.returncode is None:
            self.kills += 1
            process.kill()
            await process.wait()

    async def stop(self, *, how: int = signal.SIGKILL) -> None:
        """End it until the next `start`."""
        self._wanted.clear()
        process = self._process
        if process is not None and process.returncode is None:
            self.kills += 1
            process.send_signal(how)
            await process.wait()

    def replace_token(self, token: str) -> None:
        """Put a new token into its file, at once as the kubelet does: an empty file would be read as no token."""
        fresh = self.token_file.with_suffix(".fresh")
        fresh.write_text(token)
        fresh.rename(self.token_file)

    def pause(self) -> None:
        """SIGSTOP: it believes that no time passes."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    async def _supervise(self) -> None:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("AGENTTASK_", "KUBE", "OTEL_"))}
        environ.pop("PYTHONDONTWRITEBYTECODE", None)  # where it starts often: compiled once, in the tests' own folder
        compiled = str(self._folder.parent.parent / "compiled")
        environ |= {"KUBECONFIG": str(self._kubeconfig), "PYTHONPYCACHEPREFIX": compiled} | self._environ
        while True:
            await self._wanted.wait()
            kills = self.kills
            self._begins = self.log_file.stat().st_size
            arguments = [word for one in self._namespaces for word in ("--namespace", one)]
            arguments += [word for one in (*_SETTINGS, *self.settings) for word in ("--set", one)]
            self._process = await self._launch(arguments, environ, self.log_file)
            self.starts += 1
            code = await self._process.wait()
            if self.kills == kills:
                self.restarts += 1
                self.exits.append(code)
                await asyncio.sleep(0.5)
