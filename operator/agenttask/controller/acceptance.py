"""Whether a task can run in this installation at all: its own rules, and the plugins that it names.

The outcome depends on the spec and on settings only, so it is worked out once a task and remembered.
"""

from collections.abc import Collection

from msgspec import Struct

from agenttask.api.errors import AgentTaskError, InvalidTask, UnknownPlugin
from agenttask.api.task import AgentTaskSpec
from agenttask.controller.installation import ExtraPlugins, Installation
from agenttask.controller.pod_policy import check_allowed
from agenttask.domain.nearest import did_you_mean, listed, quoted
from agenttask.domain.observation import Refused
from agenttask.domain.secret_uses import secret_uses
from agenttask.domain.validation import validate
from agenttask.plugin.registry import Plugins


class PluginNames(Struct, frozen=True, kw_only=True):
    """What is installed, by name; `in the runner only` included."""

    step_kinds: frozenset[str]
    threading: frozenset[str]
    llm_clients: frozenset[str]
    model_factories: frozenset[str]
    device_strategies: frozenset[str]


def names_of(plugins: Plugins, extra: ExtraPlugins) -> PluginNames:
    """The names that tasks and models may use."""
    return PluginNames(
        step_kinds=frozenset(plugins.step_kinds.names) | frozenset(extra.step_kinds),
        threading=frozenset(plugins.threading_strategies.names) | frozenset(extra.threading),
        llm_clients=frozenset(plugins.llm_clients.names) | frozenset(extra.llm_clients),
        model_factories=frozenset(plugins.model_factories.names) | frozenset(extra.model_factories),
        device_strategies=frozenset(plugins.device_strategies.names),
    )


def refusal(spec: AgentTaskSpec, installation: Installation, names: PluginNames) -> Refused | None:
    """Why the task can never run here, or None."""
    try:
        validate(spec, step_kinds=names.step_kinds)
        known("spec.device.strategy", "device strategy", spec.device.strategy, names.device_strategies)
        known("spec.execution.threading", "threading strategy", spec.execution.threading, names.threading)
        _secrets_allowed(spec, installation)
        check_allowed(spec.pod, installation)
        _reaches_a_host(spec, installation)
    except AgentTaskError as error:
        return Refused(reason=error.reason, message=str(error))
    return None


def known(field: str, what: str, name: str, installed: Collection[str]) -> None:
    """Refuse a name that no plugin has.

    Raises:
        UnknownPlugin: the message lists those there are.
    """
    if name not in installed:
        near = did_you_mean(name, installed)
        raise UnknownPlugin(f"{field}: no {what} is called {quoted(name)}; installed: {listed(installed)}{near}")


def _secrets_allowed(spec: AgentTaskSpec, installation: Installation) -> None:
    for use in secret_uses(spec.steps):
        if not installation.may_name_secret(use.ref.name):
            allowed = listed(installation.secret_globs)
            problem = f"tasks may not name the Secret {quoted(use.ref.name)}; the installation allows: {allowed} (secretGlobs)"
            raise InvalidTask(use.field, problem)


def _reaches_a_host(spec: AgentTaskSpec, installation: Installation) -> None:
    """Where no host is allowed a step that needs one can only fail; which host it is shows when its template is rendered."""
    if installation.allowed_hosts:
        return
    for index, step in enumerate(spec.steps):
        field = "fetch" if step.fetch is not None else "git.clone" if step.git is not None and step.git.clone is not None else None
        if field is not None:
            raise InvalidTask(
                f"spec.steps[{index}].{field}", "the installation allows no host to be reached; have it added to allowedHosts"
            )
