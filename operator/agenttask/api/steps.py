"""The steps of a task: common fields, and one struct for each kind.

The field names and bounds are those of `crds/agenttasks.yaml`; a test holds the two equal. String fields of a kind
are templates (domain/templates.py) unless they are names.
"""

from typing import Annotated, Any

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


class Read(Wire, frozen=True, kw_only=True):
    """Reads UTF-8 files; a path may be a glob. `text` is their contents in the order of the paths, `files` maps path to content."""

    paths: Annotated[tuple[ShortTemplate, ...], Meta(min_length=1, max_length=64)]


class Write(Wire, frozen=True, kw_only=True):
    """Writes one file below the workspace, atomically. `text` is its path."""

    path: Annotated[str, Meta(min_length=1, max_length=1024)]
    content: Template


class WaitFile(Wire, frozen=True, kw_only=True):
    """A file that the command's work is done with: the step waits until it exists, after the command has ended."""

    path: Annotated[str, Meta(min_length=1, max_length=1024)]
    timeout_seconds: Seconds = 60


class Exec(Wire, frozen=True, kw_only=True):
    """Runs a command (argv, no shell). `text` is its standard output, `exitCode` 0; any other exit code fails the step."""

    command: Annotated[tuple[Template, ...], Meta(min_length=1, max_length=64)]
    stdin: Template = ""
    env: Annotated[tuple[ExecEnvVar, ...], Meta(max_length=64)] = ()
    workdir: ShortTemplate = ""
    wait_file: WaitFile | None = None


class Chat(Wire, frozen=True, kw_only=True):
    """Asks a model. `text` is its answer."""

    model: ResourceName
    system: Template = ""
    prompt: Annotated[str, Meta(min_length=1, max_length=16384)]
    max_tokens: Annotated[int, Meta(ge=1, le=1048576)] = 512


class Embed(Wire, frozen=True, kw_only=True):
    """Embeds texts and files as a collection for `retrieve`; files are split at blank lines into passages."""

    model: ResourceName
    texts: Annotated[tuple[Template, ...], Meta(max_length=256)] = ()
    paths: Annotated[tuple[ShortTemplate, ...], Meta(max_length=64)] = ()
    passage_characters: Annotated[int, Meta(ge=64, le=8192)] = 800


class Retrieve(Wire, frozen=True, kw_only=True):
    """Finds the passages of an `embed` step nearest to a query. `text` joins them, `json` lists {text, source, score}."""

    from_: StepName = msgspec.field(name="from")
    query: Annotated[str, Meta(min_length=1, max_length=16384)]
    top_k: Annotated[int, Meta(ge=1, le=100)] = 4


class PluginStep(Wire, frozen=True, kw_only=True):
    """A third party's step kind; strings in `with` are templates."""

    kind: PluginName
    with_: Annotated[dict[str, Any], Meta(max_length=64)] = msgspec.field(name="with", default_factory=dict)


class Step(Wire, frozen=True, kw_only=True):
    """One step: common fields and exactly one kind."""

    name: StepName
    needs: Annotated[tuple[StepName, ...], Meta(max_length=63)] | None = None
    timeout_seconds: Seconds | None = None
    read: Read | None = None
    write: Write | None = None
    exec: Exec | None = None
    chat: Chat | None = None
    embed: Embed | None = None
    retrieve: Retrieve | None = None
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


STEP_KINDS = ("read", "write", "exec", "chat", "embed", "retrieve", "plugin")
