"""The steps of a task: common fields, and one struct for each kind.

The field names and bounds are those of `crds/agenttasks.yaml`; a test holds the two equal. String fields of a kind
are templates (domain/templates.py) unless they are names.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from agenttask.api.errors import InvalidTask

Template = Annotated[str, Meta(max_length=16384)]
"""A Jinja2 template of the allowed subset; at most 16 Ki characters."""
ShortTemplate = Annotated[str, Meta(max_length=1024)]
StepName = Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
"""A DNS label."""
ResourceName = Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
EnvName = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
Seconds = Annotated[int, Meta(ge=1, le=604800)]
SecondsOrTemplate = Annotated[int, Meta(ge=1, le=604800)] | ShortTemplate
"""Whole seconds, or a template that renders to them, as `"{{ item.timeout }}"`."""
Quantity = (
    Annotated[int, Meta(ge=0, le=10**18)]
    | Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$", max_length=32)]
)
"""A Kubernetes resource quantity, as `500m` or `2Gi`; a whole number may stand without quotes, as `cpu: 2`."""
JsonSchema = Annotated[dict[str, Any], Meta(max_length=64)]
"""A JSON Schema of the user's."""
Priority = Annotated[int, Meta(ge=-1000, le=1000)]
"""Higher goes first."""
PluginName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9]([-a-zA-Z0-9_.]*[a-zA-Z0-9])?$", max_length=63)]


class Wire(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """Base of everything a user writes: camelCase on the wire, an unknown field is an error."""


class SecretKeyRef(Wire, frozen=True, kw_only=True):
    """One key of a Secret in the task's namespace."""

    name: ResourceName
    key: Annotated[str, Meta(pattern=r"^[-._a-zA-Z0-9]+$", min_length=1, max_length=253)]


class EnvVar(Wire, frozen=True, kw_only=True):
    """A variable for `exec` processes: a value (template in `exec.env`, literal in `pod.env`)."""

    name: EnvName
    value: Annotated[str, Meta(max_length=8192)] = ""


class ExecEnvVar(Wire, frozen=True, kw_only=True):
    """A variable of one `exec` step: a value, or a Secret's key that the installation allows."""

    name: EnvName
    value: Annotated[str, Meta(max_length=8192)] | None = None
    secret_key_ref: SecretKeyRef | None = None


class Backoff(Wire, frozen=True, kw_only=True):
    """Pauses between tries: `initialSeconds`, `factor` times as long each time, at most `maxSeconds`; a random half is left out."""

    initial_seconds: Annotated[int, Meta(ge=1, le=3600)] = 1
    factor: Annotated[int, Meta(ge=1, le=10)] = 2
    max_seconds: Annotated[int, Meta(ge=1, le=86400)] = 60


class StepRetry(Wire, frozen=True, kw_only=True):
    """How often a failed step, or a failed item of `forEach`, is tried again; what can never succeed is not."""

    limit: Annotated[int, Meta(ge=1, le=20)]
    backoff: Backoff = Backoff()


class Read(Wire, frozen=True, kw_only=True):
    """Reads UTF-8 files; a path may be a glob. `text` is their contents in the order of the paths, `files` maps path to content."""

    paths: Annotated[tuple[ShortTemplate, ...], Meta(min_length=1, max_length=64)]


class Write(Wire, frozen=True, kw_only=True):
    """Writes one file below the workspace, atomically. `text` is its path."""

    path: Annotated[str, Meta(min_length=1, max_length=1024)]
    content: Template


class WaitFile(Wire, frozen=True, kw_only=True):
    """A file that the command's work is done with: the step waits until it exists, after the command has ended.

    With `contains` until it holds that text, with `jsonSchema` until it is JSON that fits; its value is then the step's `json`.
    """

    path: Annotated[str, Meta(min_length=1, max_length=1024)]
    timeout_seconds: SecondsOrTemplate = 60
    contains: ShortTemplate = ""
    json_schema: JsonSchema | None = None


class Exec(Wire, frozen=True, kw_only=True):
    """Runs a command (argv, no shell). `text` is its standard output, `exitCode` 0; any other exit code fails the step.

    Paths in `locks`, the working folder's git repository and the wait file are its own while it runs: no other step that names them runs
    beside it.
    """

    command: Annotated[tuple[Template, ...], Meta(min_length=1, max_length=64)]
    stdin: Template = ""
    env: Annotated[tuple[ExecEnvVar, ...], Meta(max_length=64)] = ()
    workdir: ShortTemplate = ""
    wait_file: WaitFile | None = None
    locks: Annotated[tuple[ShortTemplate, ...], Meta(max_length=16)] = ()
    output: Literal["Whole", "Tail"] = "Whole"
    """`Whole` fails a command that prints more than a step can hand on, `Tail` keeps the end."""


class ChatMessage(Wire, frozen=True, kw_only=True):
    """One message of a conversation that came before."""

    role: Literal["System", "User", "Assistant"]
    content: Annotated[str, Meta(min_length=1, max_length=16384)]


class Chat(Wire, frozen=True, kw_only=True):
    """Asks a model. `text` is its answer, `json` its value where `responseSchema` is given.

    With `models` all of them are asked at once: `json` is `{model: {text, json, error}}`, `text` joins the answers. One that fails does
    not fail the others, unless `requireAll` is set; all failing fails the step.
    """

    model: ResourceName | None = None
    models: Annotated[tuple[ResourceName, ...], Meta(max_length=16)] = ()
    require_all: bool = False
    system: Template = ""
    messages: Annotated[tuple[ChatMessage, ...], Meta(max_length=64)] = ()
    """Before the prompt, which may then be left out."""
    prompt: Template = ""
    max_tokens: Annotated[int, Meta(ge=1, le=1048576)] = 512
    temperature: Annotated[str, Meta(pattern=r"^(0(\.[0-9]{1,3})?|1(\.[0-9]{1,3})?|2(\.0{1,3})?)$", max_length=5)] | None = None
    """A decimal from 0 to 2, as a string: the API has no floats."""
    seed: Annotated[int, Meta(ge=0, le=2147483647)] | None = None
    stop: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=256)], ...], Meta(max_length=4)] = ()
    response_schema: JsonSchema | None = None
    """JSON Schema that the answer must fit; an answer that does not is sent back once with what is wrong."""


class Embed(Wire, frozen=True, kw_only=True):
    """Embeds texts and files as a collection for `retrieve`; files are split at blank lines into passages."""

    model: ResourceName
    texts: Annotated[tuple[Template, ...], Meta(max_length=256)] = ()
    paths: Annotated[tuple[ShortTemplate, ...], Meta(max_length=64)] = ()
    passage_characters: Annotated[int, Meta(ge=64, le=8192)] = 800
    passage_tokens: Annotated[int, Meta(ge=16, le=8192)] | None = None
    """By the model's own tokens where its client can count them; wins over `passageCharacters`."""


class Retrieve(Wire, frozen=True, kw_only=True):
    """Finds the passages of an `embed` step nearest to a query. `text` joins them, `json` lists {text, source, score}."""

    from_: StepName = msgspec.field(name="from")
    query: Annotated[str, Meta(min_length=1, max_length=16384)]
    top_k: Annotated[int, Meta(ge=1, le=100)] = 4


class FetchHeader(Wire, frozen=True, kw_only=True):
    """One request header: a value, or a Secret's key that the installation allows."""

    name: Annotated[str, Meta(pattern=r"^[-!#$%&'*+.^_`|~0-9A-Za-z]+$", min_length=1, max_length=128)]
    value: Annotated[str, Meta(max_length=8192)] | None = None
    secret_key_ref: SecretKeyRef | None = None


class Fetch(Wire, frozen=True, kw_only=True):
    """One HTTP request to a host that the installation allows. `text` is the body, `json` its value where it is JSON.

    A status other than 2xx fails the step; 408, 429 and 5xx are worth a retry. Headers never follow a redirect to another host.
    """

    url: Annotated[str, Meta(min_length=1, max_length=2048)]
    method: Literal["GET", "POST"] = "GET"
    headers: Annotated[tuple[FetchHeader, ...], Meta(max_length=32)] = ()
    body: Template = ""
    max_bytes: Annotated[int, Meta(ge=1, le=1073741824)] = 1048576
    """Of the body; more fails the step."""
    path: ShortTemplate = ""
    """Where the body is written below the workspace, in place of `text`; for bodies that are no text, or too large to hand on."""


class GitClone(Wire, frozen=True, kw_only=True):
    """Clones a repository into a folder of the workspace; `text` is the commit."""

    url: Annotated[str, Meta(min_length=1, max_length=2048)]
    path: Annotated[str, Meta(min_length=1, max_length=1024)]
    ref: ShortTemplate = ""
    """A branch or tag; the remote's HEAD without it."""
    depth: Annotated[int, Meta(ge=0, le=1000000)] = 1
    """Commits of history; 0 is all."""
    credentials: SecretKeyRef | None = None
    """A token for HTTPS, which the installation must allow as for `exec.env`."""


class GitCommit(Wire, frozen=True, kw_only=True):
    """Commits changes of a repository; `text` is the new commit, or the present one where nothing has changed."""

    path: Annotated[str, Meta(min_length=1, max_length=1024)]
    message: Annotated[str, Meta(min_length=1, max_length=16384)]
    add: Annotated[tuple[ShortTemplate, ...], Meta(min_length=1, max_length=64)] = (".",)
    author: Annotated[str, Meta(pattern=r"^[^<>\n]+ <[^<>\s]+>$", max_length=256)] = "agenttask <agenttask@localhost>"


class GitDiff(Wire, frozen=True, kw_only=True):
    """What has changed in a repository; `text` is the patch, `json` lists the files."""

    path: Annotated[str, Meta(min_length=1, max_length=1024)]
    base: ShortTemplate = "HEAD"
    head: ShortTemplate = ""
    """The working tree without it."""
    paths: Annotated[tuple[ShortTemplate, ...], Meta(max_length=64)] = ()


class Git(Wire, frozen=True, kw_only=True):
    """One git operation, exactly one of them; the repository is the step's own while it runs."""

    clone: GitClone | None = None
    commit: GitCommit | None = None
    diff: GitDiff | None = None


class PluginStep(Wire, frozen=True, kw_only=True):
    """A third party's step kind; strings in `with` are templates."""

    kind: PluginName
    with_: Annotated[dict[str, Any], Meta(max_length=64)] = msgspec.field(name="with", default_factory=dict)


class Step(Wire, frozen=True, kw_only=True):
    """One step: common fields and exactly one kind."""

    name: StepName
    needs: Annotated[tuple[StepName, ...], Meta(max_length=63)] | None = None
    when: ShortTemplate = ""
    """One expression; false skips the step, which counts as ended, without output."""
    for_each: Template = ""
    """One expression that gives a list; the step runs once for each item, as `item` and `index`."""
    parallelism: Annotated[int, Meta(ge=1, le=64)] = 1
    """How many items run at once; 1 keeps their order, and lets an item see `previous`."""
    timeout_seconds: SecondsOrTemplate | None = None
    """Of one try (of one item)."""
    retry: StepRetry | None = None
    continue_on_error: bool = False
    """A failure is kept as `steps.<name>.error` and the task goes on; with `forEach` the other items run too."""
    keep_files: Annotated[tuple[ShortTemplate, ...], Meta(max_length=32)] = ()
    """Globs of small workspace files that belong to the step's checkpoint."""
    priority: Priority = 0
    """Among steps that are ready."""
    read: Read | None = None
    write: Write | None = None
    exec: Exec | None = None
    chat: Chat | None = None
    embed: Embed | None = None
    retrieve: Retrieve | None = None
    fetch: Fetch | None = None
    git: Git | None = None
    plugin: PluginStep | None = None

    @property
    def kind(self) -> str:
        """The kind's name: the field that is set, or the plugin's own kind.

        Raises:
            InvalidTask: none or several are set.
        """
        found = [kind for kind in STEP_KINDS if getattr(self, kind) is not None]
        if len(found) != 1:
            what = " and ".join(found) if found else "none"
            raise InvalidTask(f"step {self.name!r}", f"exactly one of {', '.join(STEP_KINDS)} is needed, {what} is given")
        return self.plugin.kind if self.plugin is not None else found[0]

    @property
    def config(self) -> dict[str, Any]:
        """The kind's own fields as plain builtins, as on the wire."""
        if self.plugin is not None:
            return self.plugin.with_
        config: dict[str, Any] = msgspec.to_builtins(getattr(self, self.kind))
        return config


STEP_KINDS = ("read", "write", "exec", "chat", "embed", "retrieve", "fetch", "git", "plugin")
