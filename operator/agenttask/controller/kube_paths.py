"""Where things live on the API server. A namespace of None is all namespaces."""

from agenttask.api.constants import API_VERSION, MODEL_PLURAL, QUEUE_PLURAL, RECORD_PLURAL, TASK_PLURAL

_CORE = "/api/v1"
_OURS = f"/apis/{API_VERSION}"
_SIMILAR_EVENTS = 16
"""A recorder puts more than ten similar ones of ten minutes into one (client-go); others may write each a megabyte."""


def _collection(root: str, namespace: str | None, plural: str) -> str:
    return f"{root}/{plural}" if namespace is None else f"{root}/namespaces/{namespace}/{plural}"


def pods_path(namespace: str | None) -> str:
    """The pods of a namespace."""
    return _collection(_CORE, namespace, "pods")


def pod_path(namespace: str, name: str) -> str:
    """One pod."""
    return f"{pods_path(namespace)}/{name}"


def tasks_path(namespace: str | None) -> str:
    """The AgentTasks of a namespace."""
    return _collection(_OURS, namespace, TASK_PLURAL)


def task_path(namespace: str, name: str) -> str:
    """One AgentTask."""
    return f"{tasks_path(namespace)}/{name}"


def models_path(namespace: str | None) -> str:
    """The AgentModels of a namespace."""
    return _collection(_OURS, namespace, MODEL_PLURAL)


def model_path(namespace: str, name: str) -> str:
    """One AgentModel."""
    return f"{models_path(namespace)}/{name}"


def queues_path(namespace: str | None) -> str:
    """The AgentQueues of a namespace."""
    return _collection(_OURS, namespace, QUEUE_PLURAL)


def queue_path(namespace: str, name: str) -> str:
    """One AgentQueue."""
    return f"{queues_path(namespace)}/{name}"


def records_path(namespace: str) -> str:
    """The AgentTaskRecords of a namespace."""
    return _collection(_OURS, namespace, RECORD_PLURAL)


def record_path(namespace: str, name: str) -> str:
    """One AgentTaskRecord."""
    return f"{records_path(namespace)}/{name}"


def events_path(namespace: str, uid: str, reason: str) -> str:
    """The events with this reason of the object with this uid, as many as an honest recorder makes."""
    return f"{_collection(_CORE, namespace, 'events')}?fieldSelector=involvedObject.uid={uid},reason={reason}&limit={_SIMILAR_EVENTS}"


def nodes_path() -> str:
    """The nodes."""
    return f"{_CORE}/nodes"


def configmaps_path(namespace: str | None) -> str:
    """The ConfigMaps of a namespace."""
    return _collection(_CORE, namespace, "configmaps")


def configmap_path(namespace: str, name: str) -> str:
    """One ConfigMap."""
    return f"{configmaps_path(namespace)}/{name}"


def pvcs_path(namespace: str | None) -> str:
    """The PersistentVolumeClaims of a namespace."""
    return _collection(_CORE, namespace, "persistentvolumeclaims")


def pvc_path(namespace: str, name: str) -> str:
    """One PersistentVolumeClaim."""
    return f"{pvcs_path(namespace)}/{name}"


def leases_path(namespace: str) -> str:
    """The Leases of a namespace."""
    return _collection("/apis/coordination.k8s.io/v1", namespace, "leases")


def lease_path(namespace: str, name: str) -> str:
    """One Lease."""
    return f"{leases_path(namespace)}/{name}"
