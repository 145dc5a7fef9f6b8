"""What a refused POST of a pod means: for good, or worth another try later.

A quota frees up, a right is granted, a namespace's service account appears a moment after it; Pod Security, a
LimitRange and a validation error stay. The API server tells them apart in words only (Kubernetes 1.35).
"""

from typing import Final

from agenttask.api.reasons import Reason
from agenttask.controller.kube_errors import Forbidden, KubeError
from agenttask.domain.observation import Rejection

_PASSING: Final = (
    "exceeded quota",
    "cannot create resource",
    "because it is being terminated",
    "error looking up service account",
    "status unknown for quota",
    "not yet ready to handle request",
)


def rejection_of(error: KubeError) -> Rejection:
    """How to go on after the API server refused the pod."""
    if isinstance(error, Forbidden) and any(sign in error.message for sign in _PASSING):
        return Rejection(reason=Reason.UNSCHEDULABLE, message=error.message, passing=True)
    return Rejection(reason=Reason.POD_REJECTED, message=f"the API server refused the pod: {error.message}")
