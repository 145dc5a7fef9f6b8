"""The part of a task's spec that the runner reads.

What only the controller honours stays out of the task document, and so does what is left at its default: a runner image
of an older version, which refuses fields that it does not know, then reads the documents of tasks that use none of them.
"""

from typing import Final

import msgspec

from agenttask.api.pod_options import PodOptions
from agenttask.api.task import AgentTaskSpec, Device

_OURS: Final = (
    "queue",
    "priority",
    "suspend",
    "cancel",
    "managed_by",
    "retry",
    "pending_deadline_seconds",
    "ttl_seconds_after_finished",
)
_DEFAULTS: Final = {field.name: field.default for field in msgspec.structs.fields(AgentTaskSpec)}


def for_runner(spec: AgentTaskSpec) -> AgentTaskSpec:
    """The same task without the controller's fields: of `device` the classes stay, which say whether a processor will do."""
    kept = {
        "device": Device(classes=spec.device.classes),
        "execution": msgspec.structs.replace(spec.execution, at_most_once=False),
        "pod": PodOptions(env=spec.pod.env),
    }
    unset = {name: _DEFAULTS[name] for name in _OURS}
    # The default itself, not its equal, is left out of the document.
    told = {name: _DEFAULTS[name] if one == _DEFAULTS[name] else one for name, one in kept.items()}
    return msgspec.structs.replace(spec, **unset, **told)
