"""Which Secrets a task itself names, and under which variable each reaches its step.

One list for the policy that decides about them, the pod that carries them and the local run that looks them up.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from agenttask.api.steps import SecretKeyRef, Step

GIT_VARIABLE: Final = "credentials"
"""The name under which the credential of `git.clone` reaches its step."""


class SecretUse(Struct, frozen=True, kw_only=True):
    """One secretKeyRef of a step: `field` is its path, `name` the variable or header that it fills."""

    step: str
    name: str
    field: str
    ref: SecretKeyRef


def secret_uses(steps: Sequence[Step]) -> Iterator[SecretUse]:
    """All of them, in the order of the steps."""
    for index, step in enumerate(steps):
        for name, field, ref in _of_step(step):
            yield SecretUse(step=step.name, name=name, field=f"spec.steps[{index}].{field}", ref=ref)


def _of_step(step: Step) -> Iterator[tuple[str, str, SecretKeyRef]]:
    for position, variable in enumerate(step.exec.env if step.exec is not None else ()):
        if variable.secret_key_ref is not None:
            yield variable.name, f"exec.env[{position}].secretKeyRef", variable.secret_key_ref
    for position, header in enumerate(step.fetch.headers if step.fetch is not None else ()):
        if header.secret_key_ref is not None:
            yield header.name, f"fetch.headers[{position}].secretKeyRef", header.secret_key_ref
    if step.git is not None and step.git.clone is not None and step.git.clone.credentials is not None:
        yield GIT_VARIABLE, "git.clone.credentials", step.git.clone.credentials
