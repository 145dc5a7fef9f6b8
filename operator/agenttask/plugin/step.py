"""Step kinds: what one step does, with what the runner lends it."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from agenttask.api.document import Policy, TaskRef
from agenttask.plugin.llm import LLMClient
from agenttask.plugin.threading import ThreadingStrategy

if TYPE_CHECKING:
    import aiohttp


class Passage(Struct, frozen=True, kw_only=True):
    """A piece of text and where it is from (a path, or `texts[3]`)."""

    text: str
    source: str


class Collection(Struct, frozen=True, kw_only=True):
    """Embedded passages, for `retrieve`: `vectors[i]` belongs to `passages[i]`; `model` embeds the queries too."""

    model: str
    passages: tuple[Passage, ...]
    vectors: tuple[Sequence[float], ...]


class StepError(Struct, frozen=True, kw_only=True):
    """Why a step or an item failed, where the task went on (`continueOnError`)."""

    reason: str
    message: str


class StepOutput(Struct, frozen=True, kw_only=True):
    """What later steps see as `steps.<name>`: text, json, files (path → content), exitCode, results, error.

    `results` has the outputs of `forEach` items in their order, `error` is set where a failed step let the task go on. `collection` is
    for `retrieve` only.
    """

    text: str = ""
    json: Any = None
    files: Mapping[str, str] = {}
    exit_code: int | None = None
    results: tuple["StepOutput", ...] = ()
    error: StepError | None = None
    collection: Collection | None = None

    def as_template_value(self) -> dict[str, Any]:
        """The names that templates see."""
        return {
            "text": self.text,
            "json": self.json,
            "files": dict(self.files),
            "exitCode": self.exit_code,
            "results": [result.as_template_value() for result in self.results],
            "error": None if self.error is None else {"reason": self.error.reason, "message": self.error.message},
        }


class Files(Protocol):
    """Files under the runner's rules: reads from inputs and workspace, writes to the workspace; symlinks do not lead out."""

    def readable(self, path: str) -> Path:
        """The resolved path, relative ones from the workspace.

        Raises:
            StepFailed: outside of inputs and workspace; the message names path and places.
        """
        ...

    def writable(self, path: str) -> Path:
        """The resolved path below the workspace; its folder need not exist.

        Raises:
            StepFailed: outside of the workspace.
        """
        ...

    async def glob(self, pattern: str) -> Sequence[Path]:
        """The readable files that match, sorted; a plain path is itself.

        Raises:
            StepFailed: nothing matches, or outside of inputs and workspace.
        """
        ...

    async def read_text(self, path: Path) -> str:
        """A UTF-8 file.

        Raises:
            StepFailed: not there, a directory, or not UTF-8 (the message gives the byte's offset).
            OutputTooLarge: more than a step may hand on.
        """
        ...

    async def write_text(self, path: str, content: str) -> Path:
        """Write a file below the workspace atomically (temporary file, rename); folders are made."""
        ...

    async def write_stream(self, path: str, chunks: AsyncIterator[bytes]) -> Path:
        """As `write_text`, with bytes as they come; nothing is left of a stream that breaks off.

        Raises:
            StepFailed: outside of the workspace, or the disk does not take it.
        """
        ...


class Locks(Protocol):
    """Locks of one task by path: whoever writes a file, a folder or a git repository holds it meanwhile."""

    def hold(self, *paths: Path) -> AbstractAsyncContextManager[None]:
        """Wait until no other step holds one of these paths, a folder above it or something below it.

        All are taken at once, so two steps never wait for each other.
        """
        ...


class StepContext(Struct, frozen=True, kw_only=True):
    """What the runner lends to one run of one step."""

    name: str
    task: TaskRef
    outputs: Mapping[str, StepOutput]
    """Finished steps that this one needs, directly or through others."""
    files: Files
    workspace: Path
    threads: ThreadingStrategy
    model: Callable[[str], LLMClient]
    """The client of an AgentModel by its name; usage and spans are taken care of."""
    environment: Mapping[str, str]
    """The clean environment for processes: PATH, HOME, LANG, TMPDIR, and what `pod.env` gives."""
    secrets: Mapping[str, str]
    """Values of this step's secretKeyRefs: by variable name (`exec.env`), by header name (`fetch.headers`), `credentials` (`git.clone`)."""
    log: Callable[[str], None]
    """A line for the pod's log, with the step's name before it."""
    locks: Locks
    policy: Policy
    session: "Callable[[], aiohttp.ClientSession]"
    """The run's HTTP session (HTTP/2 where the server has it); made at the first call.

    `fetch` asks it for URLs with a checked address as their host; the name is in the header `Host` and in `server_hostname`.
    """


class StepKind(Protocol):
    """One kind of step. `schema` is the msgspec type of its fields; a config arrives rendered and converted to it."""

    schema: type[Any]

    async def run(self, config: Any, context: StepContext) -> StepOutput:
        """Do it. A time-out or the end of the runner cancels this coroutine: clean up in `finally`."""
        ...


StepKindFactory = Callable[[], StepKind]
