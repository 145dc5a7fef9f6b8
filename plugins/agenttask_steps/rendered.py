"""The fields of each kind after rendering: those of `agenttask.api.steps`, without the lengths of templates.

A template of 40 characters may render to a megabyte of files, so the bounds of what a user writes do not hold for what
a step gets; `MAX_RENDERED_BYTES` does. A test holds the names equal to the api's.
"""

from typing import Any, Literal

from msgspec import field

from agenttask.api.steps import Wire


class RenderedRead(Wire, frozen=True, kw_only=True):
    """Fields of `read`."""

    paths: tuple[str, ...]


class RenderedWrite(Wire, frozen=True, kw_only=True):
    """Fields of `write`."""

    path: str
    content: str


class RenderedVariable(Wire, frozen=True, kw_only=True):
    """One variable: a rendered value, or a secret that the context holds under its name."""

    name: str
    value: str | None = None
    secret_key_ref: dict[str, str] | None = None


class RenderedWaitFile(Wire, frozen=True, kw_only=True):
    """The file to wait for."""

    path: str
    timeout_seconds: int | str = 60
    contains: str = ""
    json_schema: dict[str, Any] | None = None


class RenderedExec(Wire, frozen=True, kw_only=True):
    """Fields of `exec`."""

    command: tuple[str, ...]
    stdin: str = ""
    env: tuple[RenderedVariable, ...] = ()
    workdir: str = ""
    wait_file: RenderedWaitFile | None = None
    locks: tuple[str, ...] = ()
    output: Literal["Whole", "Tail"] = "Whole"


class RenderedMessage(Wire, frozen=True, kw_only=True):
    """One earlier message of `chat`."""

    role: Literal["System", "User", "Assistant"]
    content: str


class RenderedChat(Wire, frozen=True, kw_only=True):
    """Fields of `chat`."""

    model: str | None = None
    models: tuple[str, ...] = ()
    require_all: bool = False
    system: str = ""
    messages: tuple[RenderedMessage, ...] = ()
    prompt: str = ""
    max_tokens: int = 512
    temperature: str | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    response_schema: dict[str, Any] | None = None


class RenderedEmbed(Wire, frozen=True, kw_only=True):
    """Fields of `embed`."""

    model: str
    texts: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    passage_characters: int = 800
    passage_tokens: int | None = None


class RenderedRetrieve(Wire, frozen=True, kw_only=True):
    """Fields of `retrieve`."""

    from_: str = field(name="from")
    query: str
    top_k: int = 4


class RenderedHeader(Wire, frozen=True, kw_only=True):
    """One header of `fetch`: a rendered value, or a secret that the context holds under the header's name."""

    name: str
    value: str | None = None
    secret_key_ref: dict[str, str] | None = None


class RenderedFetch(Wire, frozen=True, kw_only=True):
    """Fields of `fetch`."""

    url: str
    method: Literal["GET", "POST"] = "GET"
    headers: tuple[RenderedHeader, ...] = ()
    body: str = ""
    max_bytes: int = 1048576
    path: str = ""


class RenderedClone(Wire, frozen=True, kw_only=True):
    """Fields of `git.clone`."""

    url: str
    path: str
    ref: str = ""
    depth: int = 1
    credentials: dict[str, str] | None = None


class RenderedCommit(Wire, frozen=True, kw_only=True):
    """Fields of `git.commit`."""

    path: str
    message: str
    add: tuple[str, ...] = (".",)
    author: str = "agenttask <agenttask@localhost>"


class RenderedDiff(Wire, frozen=True, kw_only=True):
    """Fields of `git.diff`."""

    path: str
    base: str = "HEAD"
    head: str = ""
    paths: tuple[str, ...] = ()


class RenderedGit(Wire, frozen=True, kw_only=True):
    """Fields of `git`: one operation."""

    clone: RenderedClone | None = None
    commit: RenderedCommit | None = None
    diff: RenderedDiff | None = None
