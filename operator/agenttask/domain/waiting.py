"""Why a pod does not run yet, from what scheduler and kubelet say of it."""

from typing import Final

from agenttask.api.reasons import Reason
from agenttask.domain.observation import Refused, SeenPod, Waits

_PULLING: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed"})
_NEVER_PULLED: Final = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_CANNOT_START: Final = frozenset({"RunContainerError", "CreateContainerError", "ContainerCannotRun"})
NO_ENTRY_POINT: Final = ("executable file not found", "no such file or directory", "permission denied", "exec format error")
"""What container runtimes say when an image lacks the command; trying again does not help."""


def why(pod: SeenPod, missing_input: str | None) -> Waits | Refused:
    """The waiting reason, or the terminal one where waiting is pointless."""
    reason, said = pod.waiting_reason, pod.waiting_message
    if pod.gates:
        message = f"pod {pod.name} is held back by its scheduling gates: {', '.join(pod.gates)}; whoever set them takes them away"
        return Waits(reason=Reason.SCHEDULING_GATED, message=message)
    if pod.unschedulable is not None:
        return Waits(reason=Reason.UNSCHEDULABLE, message=pod.unschedulable or "the scheduler finds no node for the pod")
    if pod.unprepared is not None:
        return Waits(reason=Reason.WAITING_FOR_DEVICE, message=f"node {pod.node} does not prepare the pod's device: {pod.unprepared}")
    if reason in _PULLING:
        return Waits(reason=Reason.IMAGE_PULL, message=said or f"the node cannot pull the image ({reason})")
    if reason in _NEVER_PULLED or (reason in _CANNOT_START and any(sign in said for sign in NO_ENTRY_POINT)):
        return Refused(reason=Reason.IMAGE_ERROR, message=f"{reason}: {said}" if said else reason, accepted=True)
    if reason == "CreateContainerConfigError":
        return Waits(reason=Reason.MISSING_INPUT, message=said or "a Secret or ConfigMap of the container is missing")
    if missing_input is not None:
        return Waits(reason=Reason.MISSING_INPUT, message=missing_input)
    if reason in _CANNOT_START:
        return Waits(reason=Reason.POD_STARTING, message=f"{reason}: {said}")
    return Waits(reason=Reason.POD_STARTING, message=f"pod {pod.name} is starting")
