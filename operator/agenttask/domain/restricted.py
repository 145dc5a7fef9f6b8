"""What the container of a task's pod may: Kubernetes' restricted Pod Security Standard, with a read-only root.

One piece for the pod that the controller makes and for the one that `agenttask image check` tries an image in: an image
that passes there must run here.
"""

from collections.abc import Mapping
from typing import Any, Final

CONTAINER_SECURITY: Final[Mapping[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
