"""The controller's settings, read once: defaults < config.yaml < environment < flags.

A variable is `AGENTTASK_CONTROLLER_` and the path of the key (`AGENTTASK_CONTROLLER_IMAGES__RUNNER`), a flag is
`--set images.runner=...`. An unknown key is an error that names the nearest known one.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
import yaml
from msgspec import Meta, Struct

from agenttask.controller.installation import Installation, Section
from agenttask.domain import output_store
from agenttask.domain.deadlines import NODE_LOST_SECONDS
from agenttask.domain.nearest import did_you_mean, listed

ENV_PREFIX: Final = "AGENTTASK_CONTROLLER_"
ENV_CONFIG: Final = "AGENTTASK_CONFIG"
_WORDS: Final = re.compile(r"_([a-z0-9])")


class SettingsError(ValueError):
    """A setting is unknown or has a value that it cannot have."""


class Logging(Section, frozen=True, kw_only=True):
    """The controller's log: JSON lines or text, and the least that is logged."""

    format: Literal["json", "text"] = "json"
    level: Literal["debug", "info", "warning", "error"] = "info"


class TelemetrySettings(Section, frozen=True, kw_only=True):
    """Where spans go; empty: nowhere."""

    otlp_endpoint: str = ""


class LeaderElection(Section, frozen=True, kw_only=True):
    """Which of several replicas writes; without, there must be one only. Times are in seconds."""

    enabled: bool = False
    lease_name: Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)] = "agenttask-controller"
    namespace: Annotated[str, Meta(max_length=63)] = ""
    """Of the Lease; empty: the controller's own."""
    lease_seconds: Annotated[int, Meta(ge=3, le=600)] = 15
    """How long after its last renewal another replica may take over."""
    renew_seconds: Annotated[int, Meta(ge=2, le=600)] = 10
    """How long the leader goes on when it cannot renew."""


class GatewaySettings(Section, frozen=True, kw_only=True):
    """Where running attempts hand over checkpoints, large outputs and progress. `url` is what pods are told, as `https://name:port`."""

    enabled: bool = False
    port: Annotated[int, Meta(ge=0, le=65535)] = 8443
    """0 takes a free one."""
    url: Annotated[str, Meta(pattern=r"^(https://[^/?#@\s]+)?$", max_length=512)] = ""
    certificate_dir: Annotated[str, Meta(min_length=1, max_length=4096)] = "/etc/agenttask-gateway"
    """With tls.crt, tls.key, ca.crt and token.key."""


class Settings(Installation, frozen=True, kw_only=True):
    """Everything that can be set; `namespaces` empty means all of them."""

    namespaces: tuple[Annotated[str, Meta(min_length=1, max_length=63)], ...] = ()
    nodes: bool = True
    """Whether nodes may be read; without, free devices are unknown."""
    node_lost_seconds: Annotated[int, Meta(ge=1, le=86400)] = NODE_LOST_SECONDS
    """How long after its grace a pod may stay Terminating before its node counts as lost and the next attempt may start."""
    workers: Annotated[int, Meta(ge=1, le=64)] = 16
    max_running_tasks: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Tasks of all queues and namespaces that run at once; 0 is without a bound."""
    waiting_writes_per_second: Annotated[int, Meta(ge=1, le=1000)] = 5
    probe_port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    """For /healthz and /readyz; 0 takes a free one."""
    logging: Logging = Logging()
    telemetry: TelemetrySettings = TelemetrySettings()
    gateway: GatewaySettings = GatewaySettings()
    leader_election: LeaderElection = LeaderElection()


def read_settings(*, config: str | None, environ: Mapping[str, str], flags: Sequence[str]) -> Settings:
    """The settings from a file's text, an environment, and `key=value` flags.

    Raises:
        SettingsError: with the key and the remedy.
    """
    merged = _file(config)
    for name in sorted(environ):
        if name.startswith(ENV_PREFIX):
            path = [_camel(part) for part in name.removeprefix(ENV_PREFIX).lower().split("__")]
            _put(merged, path, environ[name], name)
    for flag in flags:
        key, equals, value = flag.partition("=")
        if not equals:
            raise SettingsError(f"--set {flag}: write it as --set key=value")
        _put(merged, key.split("."), value, f"--set {key}")
    _known_keys(merged, Settings, "")
    try:
        settings = msgspec.convert(merged, Settings)
    except msgspec.ValidationError as error:
        raise SettingsError(f"settings: {error}".replace("`$.", "`")) from error
    _consistent(settings)
    return settings


def read_config(path: str) -> str:
    """The text of the config file.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"config file {path!r} cannot be read: {error}") from error


def _file(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        loaded = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"config file: not YAML: {error}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise SettingsError(f"config file: a mapping is needed, it has {type(loaded).__name__}")
    return loaded


def _put(merged: dict[str, Any], path: Sequence[str], text: str, source: str) -> None:
    """Set one key from text; the value is read as YAML, so that numbers, booleans and lists can be written."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{source}: {text!r} is not YAML: {error}") from error
    place = merged
    for part in path[:-1]:
        inner = place.setdefault(part, {})
        if not isinstance(inner, dict):
            raise SettingsError(f"{source}: {part!r} holds no keys")
        place = inner
    place[path[-1]] = "" if value is None else value


def _known_keys(given: Mapping[str, Any], kind: type[Struct], path: str) -> None:
    """Refuse unknown keys with the nearest known one, all the way down."""
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in given.items():
        where = f"{path}{key}"
        if key not in fields:
            raise SettingsError(f"unknown setting {where!r}; known: {listed(fields)}{did_you_mean(str(key), fields)}")
        inner = fields[key]
        if isinstance(value, dict) and _is_struct(inner):
            _known_keys(value, inner, f"{where}.")
        element = get_args(inner)[:1]
        if isinstance(value, list) and element and _is_struct(element[0]):
            for index, one in enumerate(value):
                if isinstance(one, dict):
                    _known_keys(one, element[0], f"{where}[{index}].")


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _consistent(settings: Settings) -> None:
    names = [one.name for one in settings.device_classes]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SettingsError(f"deviceClasses: {twice!r} stands twice; name a class once")
    for name in settings.default_device_classes:
        if name not in names:
            raise SettingsError(f"defaultDeviceClasses: {name!r} is none of deviceClasses: {listed(names)}{did_you_mean(name, names)}")
    store = settings.output_store
    for problem in output_store.problems(url=store.url, secret=store.secret_name, options=store.options):
        raise SettingsError(problem)
    election = settings.leader_election
    if election.renew_seconds >= election.lease_seconds:
        raise SettingsError(
            f"leaderElection.renewSeconds: {election.renew_seconds} is not less than leaseSeconds ({election.lease_seconds}); "
            "two replicas would lead at once"
        )
    if settings.gateway.enabled and not settings.gateway.url:
        raise SettingsError(
            "gateway.url is needed where gateway.enabled is true: what pods are told, as https://agenttask-gateway.agents.svc:8443"
        )


def _camel(words: str) -> str:
    return _WORDS.sub(lambda match: match[1].upper(), words)
