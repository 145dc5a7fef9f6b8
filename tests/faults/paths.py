"""Where the kinds that a run touches are served."""

from typing import Final

_PREFIXES: Final = {
    "agenttasks": "/apis/agenttask.dev/v1alpha1",
    "agentmodels": "/apis/agenttask.dev/v1alpha1",
    "agentqueues": "/apis/agenttask.dev/v1alpha1",
    "agenttaskrecords": "/apis/agenttask.dev/v1alpha1",
    "customresourcedefinitions": "/apis/apiextensions.k8s.io/v1",
    "roles": "/apis/rbac.authorization.k8s.io/v1",
    "rolebindings": "/apis/rbac.authorization.k8s.io/v1",
    "clusterroles": "/apis/rbac.authorization.k8s.io/v1",
    "clusterrolebindings": "/apis/rbac.authorization.k8s.io/v1",
    "leases": "/apis/coordination.k8s.io/v1",
    "subjectaccessreviews": "/apis/authorization.k8s.io/v1",
}


def path(plural: str, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
    """The path of a collection, an object or a subresource; without a namespace, of the whole cluster."""
    parts = [_PREFIXES.get(plural, "/api/v1")]
    if namespace is not None:
        parts += ["namespaces", namespace]
    return "/".join([*parts, plural, *(part for part in (name, subresource) if part is not None)])
