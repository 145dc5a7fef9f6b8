"""What of a task's wishes for its pod the installation allows: tolerations, priority and runtime classes, service accounts, Secrets.

Who may write AgentTasks is weaker than who may create pods, so each list is empty by default.
"""

from collections.abc import Iterator, Sequence

from agenttask.api.errors import InvalidTask
from agenttask.api.pod_options import PodOptions, Toleration
from agenttask.controller.installation import Installation
from agenttask.domain.nearest import did_you_mean, listed, quoted


def check_allowed(pod: PodOptions, installation: Installation) -> None:
    """Refuse what is on none of the installation's lists.

    Raises:
        InvalidTask: with the field, and the setting that would allow it.
    """
    for field, name in secrets_of(pod):
        if not installation.may_name_secret(name):
            allowed = listed(installation.secret_globs)
            raise InvalidTask(field, f"tasks may not name the Secret {quoted(name)}; the installation allows: {allowed} (secretGlobs)")
    for field, what, wished, setting, allowed_names in (
        ("priorityClassName", "priority class", pod.priority_class_name, "allowedPriorityClasses", installation.allowed_priority_classes),
        ("runtimeClassName", "runtime class", pod.runtime_class_name, "allowedRuntimeClasses", installation.allowed_runtime_classes),
        (
            "serviceAccountName",
            "service account",
            pod.service_account_name,
            "allowedServiceAccounts",
            installation.allowed_service_accounts,
        ),
    ):
        if wished is not None and wished not in allowed_names:
            near = did_you_mean(wished, allowed_names)
            problem = f"tasks may not take the {what} {quoted(wished)}; the installation allows: {listed(allowed_names)} ({setting}){near}"
            raise InvalidTask(f"spec.pod.{field}", problem)
    for index, one in enumerate(pod.tolerations):
        if not tolerable(one, installation.allowed_tolerations):
            problem = f"tasks may not tolerate {quoted(described(one))}; the installation allows: "
            allowed = listed([described(each) for each in installation.allowed_tolerations])
            raise InvalidTask(f"spec.pod.tolerations[{index}]", f"{problem}{allowed} (allowedTolerations)")


def secrets_of(pod: PodOptions) -> Iterator[tuple[str, str]]:
    """Field and name of each Secret that a pod's options name."""
    for index, one in enumerate(pod.image_pull_secrets):
        yield f"spec.pod.imagePullSecrets[{index}].name", one.name
    for index, volume in enumerate(pod.volumes):
        if volume.secret is not None:
            yield f"spec.pod.volumes[{index}].secret.secretName", volume.secret.secret_name


def tolerable(wished: Toleration, allowed: Sequence[Toleration]) -> bool:
    """Whether one of the allowed tolerations covers the wished one; for how long is the task's own matter."""
    return any(_covers(one, wished) for one in allowed)


def _covers(allowed: Toleration, wished: Toleration) -> bool:
    everything = allowed.key == "" and allowed.operator == "Exists"
    key = everything or allowed.key == wished.key
    value = allowed.operator == "Exists" or (wished.operator == "Equal" and allowed.value == wished.value)
    return key and value and allowed.effect in ("", wished.effect)


def described(one: Toleration) -> str:
    """As kubectl writes taints: `key=value:effect`."""
    value = "" if one.operator == "Exists" else f"={one.value}"
    return f"{one.key or 'every taint'}{value}{f':{one.effect}' if one.effect else ''}"
