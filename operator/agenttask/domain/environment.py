"""Which environment variables a task may set.

The runner's own variables carry credentials by name, and some others decide what code a process runs before its first
line: with `PYTHONPATH` in the pod's environment a ConfigMap could read the model credential of the runner.
"""

from collections.abc import Sequence
from typing import Final

from agenttask.api.errors import InvalidTask
from agenttask.api.steps import EnvVar, ExecEnvVar
from agenttask.domain.nearest import quoted

_RESERVED_PREFIXES: Final = ("AGENTTASK_", "LD_")
_RESERVED_NAMES: Final = ("TRACEPARENT", "TRACESTATE")
_POD_PREFIXES: Final = (*_RESERVED_PREFIXES, "GLIBC_", "KUBERNETES_", "OTEL_", "PYTHON", "SSL")
_POD_NAMES: Final = (*_RESERVED_NAMES, "GCONV_PATH", "HOME", "PATH")
"""What would change the runner itself; a command of an `exec` step may have its own."""
_POD_ALLOWED: Final = ("AGENTTASK_DEBUG",)
"""Settings of the runner that a task may choose: it only says more in the log."""


def check_exec(env: Sequence[ExecEnvVar], field: str) -> None:
    """Refuse reserved and repeated names, and an entry that has not exactly one source.

    Raises:
        InvalidTask: with the path of the entry.
    """
    _names([variable.name for variable in env], field, _RESERVED_PREFIXES, _RESERVED_NAMES)
    for index, variable in enumerate(env):
        if (variable.value is None) == (variable.secret_key_ref is None):
            what = "none is given" if variable.value is None else "both are given"
            raise InvalidTask(f"{field}[{index}]", f"exactly one of value and secretKeyRef is needed, {what}")


def check_pod(env: Sequence[EnvVar], field: str) -> None:
    """Refuse repeated names, and those that would change the runner.

    Raises:
        InvalidTask: with the path of the entry.
    """
    _names([variable.name for variable in env], field, _POD_PREFIXES, _POD_NAMES, allowed=_POD_ALLOWED)


def _names(given: Sequence[str], field: str, prefixes: tuple[str, ...], names: tuple[str, ...], *, allowed: tuple[str, ...] = ()) -> None:
    seen: dict[str, int] = {}
    for index, name in enumerate(given):
        where = f"{field}[{index}].name"
        if name not in allowed and (name.startswith(prefixes) or name in names):
            reserved = ", ".join([f"{prefix}*" for prefix in prefixes] + list(names))
            raise InvalidTask(where, f"{quoted(name)} is reserved, as are {reserved}; choose another name")
        if name in seen:
            raise InvalidTask(where, f"{quoted(name)} is set by {field}[{seen[name]}] too; remove one")
        seen[name] = index
