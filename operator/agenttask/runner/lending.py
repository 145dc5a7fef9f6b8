"""What the runner lends to one run of a step, or of one item: its context."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from agenttask.api.document import TaskDocument
from agenttask.api.errors import InvalidTask
from agenttask.plugin.step import StepContext, StepOutput
from agenttask.plugin.threading import ThreadingStrategy
from agenttask.runner.files import TaskFiles
from agenttask.runner.locks import PathLocks
from agenttask.runner.models import Models
from agenttask.runner.places import Places

if TYPE_CHECKING:
    import aiohttp


class Lender(Struct, frozen=True, kw_only=True):
    """The run's own things, from which contexts are made; `about` is the name before the step's log lines."""

    document: TaskDocument
    places: Places
    scratch: Path
    search_path: str
    credentials: Mapping[str, str]
    step_environment: Callable[[], Mapping[str, str]]
    log: Callable[[str, str], None]
    models: Models
    locks: PathLocks
    session: "Callable[[], aiohttp.ClientSession]"
    threads: ThreadingStrategy

    def context(self, name: str, outputs: Mapping[str, StepOutput], about: str) -> StepContext:
        """A context for the calling coroutine: its span is the one that processes and requests go on with."""
        return StepContext(
            name=name,
            task=self.document.task,
            outputs=outputs,
            files=TaskFiles(self.places, self.threads),
            workspace=self.places.workspace.folder,
            threads=self.threads,
            model=self.models.for_step(name),
            environment={
                "PATH": self.search_path,
                "LANG": "C.UTF-8",
                "HOME": str(self.scratch / "home"),
                "TMPDIR": str(self.scratch / "tmp"),
                **{variable.name: variable.value for variable in self.document.spec.pod.env},
                **self.step_environment(),
            },
            secrets=self._secrets(name),
            log=lambda message: self.log(about, message),
            locks=self.locks,
            policy=self.document.policy,
            session=self.session,
        )

    def _secrets(self, step: str) -> dict[str, str]:
        found = {}
        for secret in self.document.secrets:
            if secret.step == step:
                if secret.env not in self.credentials:
                    raise InvalidTask("", f"the secret for {secret.name!r} is missing: no variable {secret.env}")
                found[secret.name] = self.credentials[secret.env]
        return found
