"""The rules of the built-in kinds: what their fields must be to each other and to other steps.

Types and bounds are the CRD's; here is what a schema cannot say.
"""

from collections.abc import Sequence
from urllib.parse import urlsplit

from agenttask.api.errors import InvalidTask
from agenttask.api.steps import Chat, Fetch, FetchHeader, Git, Step
from agenttask.api.task import AgentTaskSpec
from agenttask.domain import environment
from agenttask.domain.graph import StepGraph
from agenttask.domain.http_headers import OF_THE_CONNECTION
from agenttask.domain.json_schema import check_schema
from agenttask.domain.nearest import did_you_mean, listed, quoted
from agenttask.domain.templates import is_template


def check_kind(index: int, spec: AgentTaskSpec, graph: StepGraph) -> None:
    """Refuse fields of a built-in kind that contradict each other.

    Raises:
        InvalidTask: with the path of the field.
    """
    step, field = spec.steps[index], f"spec.steps[{index}]"
    if step.exec is not None:
        environment.check_exec(step.exec.env, f"{field}.exec.env")
        if step.exec.wait_file is not None and step.exec.wait_file.json_schema is not None:
            check_schema(step.exec.wait_file.json_schema, f"{field}.exec.waitFile.jsonSchema")
    if step.chat is not None:
        _chat(step.chat, f"{field}.chat")
    if step.embed is not None and not step.embed.texts and not step.embed.paths:
        raise InvalidTask(f"{field}.embed", "there is nothing to embed; give `texts` or `paths`")
    if step.retrieve is not None:
        _retrieve(f"{field}.retrieve.from", index, step.retrieve.from_, spec, graph)
    if step.fetch is not None:
        _fetch(step.fetch, f"{field}.fetch")
    if step.git is not None:
        _git(step.git, f"{field}.git")


def _chat(chat: Chat, field: str) -> None:
    if (chat.model is None) == (not chat.models):
        what = "none is given" if chat.model is None else "both are given"
        raise InvalidTask(field, f"exactly one of model and models is needed, {what}")
    for position, name in enumerate(chat.models):
        if name in chat.models[:position]:
            raise InvalidTask(f"{field}.models[{position}]", f"{quoted(name)} is asked already; name a model once")
    if chat.require_all and not chat.models:
        raise InvalidTask(f"{field}.requireAll", "says what happens where some of `models` fail; give `models`, or remove it")
    if not chat.prompt and not chat.messages:
        raise InvalidTask(field, "there is nothing to ask; give `prompt` or `messages`")
    if chat.response_schema is not None:
        check_schema(chat.response_schema, f"{field}.responseSchema")


def _retrieve(field: str, index: int, name: str, spec: AgentTaskSpec, graph: StepGraph) -> None:
    embeds = [step.name for step in spec.steps if step.embed is not None]
    if name not in graph.names:
        raise InvalidTask(field, f"no step is called {quoted(name)}; `embed` steps: {listed(embeds)}{did_you_mean(name, embeds)}")
    source = spec.steps[graph.names.index(name)]
    if name not in embeds:
        raise InvalidTask(field, f"step {quoted(name)} is of kind {source.kind!r}; `embed` steps: {listed(embeds)}")
    if graph.names.index(name) not in graph.ancestors(index):
        raise InvalidTask(field, f"step {quoted(name)} may not have ended by then; add it to needs")
    if (why := _may_lack_collection(source)) is not None:
        raise InvalidTask(field, f"step {quoted(name)} {why}; embed all texts in one step that always runs")


def _may_lack_collection(step: Step) -> str | None:
    """Why an `embed` step may end without the one collection that can be searched."""
    if step.for_each:
        return "has `forEach`, and so a collection for each item and none of its own"
    if step.when:
        return "has `when`, and so may have no collection"
    return "has `continueOnError`, and so may have no collection" if step.continue_on_error else None


def _fetch(fetch: Fetch, field: str) -> None:
    if not is_template(fetch.url):
        _check_url(fetch.url, f"{field}.url")
    if fetch.body and fetch.method != "POST":
        raise InvalidTask(f"{field}.body", f"a {fetch.method} request has no body; say `method: POST`")
    _headers(fetch.headers, f"{field}.headers")


def _check_url(url: str, field: str) -> None:
    try:
        found = urlsplit(url)
        _ = found.port
    except ValueError as error:
        raise InvalidTask(field, f"{quoted(url)} is no URL: {error}") from None
    if found.scheme not in ("http", "https") or not found.hostname:
        raise InvalidTask(field, f"{quoted(url)} is no URL that begins with https:// or http:// and names a host")
    if found.username is not None or found.password is not None:
        raise InvalidTask(field, "holds a user name or password; give it as a header with `secretKeyRef`")


def _headers(headers: Sequence[FetchHeader], field: str) -> None:
    seen: dict[str, int] = {}
    for position, header in enumerate(headers):
        where, name = f"{field}[{position}]", header.name.lower()
        if (header.value is None) == (header.secret_key_ref is None):
            what = "none is given" if header.value is None else "both are given"
            raise InvalidTask(where, f"exactly one of value and secretKeyRef is needed, {what}")
        if name in OF_THE_CONNECTION:
            raise InvalidTask(f"{where}.name", f"{quoted(header.name)} is set by the connection itself; remove it")
        if name in seen:
            raise InvalidTask(f"{where}.name", f"{quoted(header.name)} is set by {field}[{seen[name]}] too; remove one")
        seen[name] = position


def _git(git: Git, field: str) -> None:
    given = [name for name in ("clone", "commit", "diff") if getattr(git, name) is not None]
    if len(given) != 1:
        what = " and ".join(given) if given else "none"
        raise InvalidTask(field, f"exactly one of clone, commit and diff is needed, {what} is given")
