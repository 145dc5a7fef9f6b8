"""The fields of each kind after rendering: those of `agenttask.api.steps`, without the lengths of templates.

A template of 40 characters may render to a megabyte of files, so the bounds of what a user writes do not hold for what
a step gets; `MAX_RENDERED_BYTES` does. A test holds the names equal to the api's.
"""

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
    timeout_seconds: int = 60


class RenderedExec(Wire, frozen=True, kw_only=True):
    """Fields of `exec`."""

    command: tuple[str, ...]
    stdin: str = ""
    env: tuple[RenderedVariable, ...] = ()
    workdir: str = ""
    wait_file: RenderedWaitFile | None = None


class RenderedChat(Wire, frozen=True, kw_only=True):
    """Fields of `chat`."""

    model: str
    system: str = ""
    prompt: str
    max_tokens: int = 512


class RenderedEmbed(Wire, frozen=True, kw_only=True):
    """Fields of `embed`."""

    model: str
    texts: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    passage_characters: int = 800


class RenderedRetrieve(Wire, frozen=True, kw_only=True):
    """Fields of `retrieve`."""

    from_: str = field(name="from")
    query: str
    top_k: int = 4
