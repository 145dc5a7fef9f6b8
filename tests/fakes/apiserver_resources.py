"""The resources that the fake API server serves, and the discovery documents that kopf and kubectl ask for."""

from typing import Any

from msgspec import Struct

from agenttask.api.constants import (
    GROUP,
    MODEL_KIND,
    MODEL_PLURAL,
    QUEUE_KIND,
    QUEUE_PLURAL,
    RECORD_KIND,
    RECORD_PLURAL,
    TASK_KIND,
    TASK_PLURAL,
    VERSION,
)


class Resource(Struct, frozen=True, kw_only=True):
    """One kind of object."""

    plural: str
    kind: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True
    status: bool = False
    """Whether `/status` is a subresource of its own, and the main one leaves status alone."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


RESOURCES = (
    Resource(plural="pods", kind="Pod", status=True),
    Resource(plural="configmaps", kind="ConfigMap"),
    Resource(plural="persistentvolumeclaims", kind="PersistentVolumeClaim", status=True),
    Resource(plural="events", kind="Event"),
    Resource(plural="leases", kind="Lease", group="coordination.k8s.io"),
    Resource(plural="nodes", kind="Node", namespaced=False, status=True),
    Resource(plural="namespaces", kind="Namespace", namespaced=False, status=True),
    Resource(plural=TASK_PLURAL, kind=TASK_KIND, group=GROUP, version=VERSION, status=True),
    Resource(plural=MODEL_PLURAL, kind=MODEL_KIND, group=GROUP, version=VERSION),
    Resource(plural=QUEUE_PLURAL, kind=QUEUE_KIND, group=GROUP, version=VERSION, status=True),
    Resource(plural=RECORD_PLURAL, kind=RECORD_KIND, group=GROUP, version=VERSION),
    Resource(
        plural="customresourcedefinitions", kind="CustomResourceDefinition", group="apiextensions.k8s.io", namespaced=False, status=True
    ),
)
BY_PLURAL = {resource.plural: resource for resource in RESOURCES}
VERBS = ["create", "delete", "get", "list", "patch", "watch"]


class Target(Struct, frozen=True, kw_only=True):
    """What a path names: a collection, or with `name` one object of it."""

    resource: Resource
    namespace: str | None = None
    name: str | None = None
    subresource: str | None = None


def resolve(path: str) -> Target | None:
    """The target of a resource path; None for anything else."""
    parts = path.strip("/").split("/")
    if parts[:2] == ["api", "v1"]:
        group, rest = "", parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, rest = parts[1], parts[3:]
    else:
        return None
    namespace = None
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    if not rest or len(rest) > 3 or rest[0] not in BY_PLURAL or BY_PLURAL[rest[0]].group != group:
        return None
    name, subresource, *_ = [*rest[1:], None, None]
    resource = BY_PLURAL[rest[0]]
    if subresource is not None and not (subresource == "status" and resource.status):
        return None
    return Target(resource=resource, namespace=namespace, name=name, subresource=subresource)


def discovery(path: str) -> dict[str, Any] | None:
    """The document at a discovery path; None if it is none."""
    groups = sorted({(resource.group, resource.version) for resource in RESOURCES if resource.group})
    if path == "/version":
        return {"major": "1", "minor": "35", "gitVersion": "v1.35.0"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(group, version) for group, version in groups]}
    if path == "/api/v1":
        return _resources("", "v1")
    for group, version in groups:
        if path == f"/apis/{group}":
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, version)}
        if path == f"/apis/{group}/{version}":
            return _resources(group, version)
    return None


def _group(group: str, version: str) -> dict[str, Any]:
    only = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [only], "preferredVersion": only}


def _resources(group: str, version: str) -> dict[str, Any]:
    found = []
    for resource in RESOURCES:
        if (resource.group, resource.version) != (group, version):
            continue
        common = {"namespaced": resource.namespaced, "kind": resource.kind}
        found.append({"name": resource.plural, "singularName": resource.kind.lower(), "verbs": VERBS, **common})
        if resource.status:
            found.append({"name": f"{resource.plural}/status", "singularName": "", "verbs": ["get", "patch"], **common})
    return {"kind": "APIResourceList", "groupVersion": f"{group}/{version}" if group else version, "resources": found}
