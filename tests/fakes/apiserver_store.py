"""The fake API server's objects: one resourceVersion a write, a history for watches, preconditions, garbage collection.

Stored objects are never changed in place; whoever gets one may keep it.
"""

import copy
import datetime as dt
import itertools
import re
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from tests.fakes.apiserver_refusal import Refusal
from tests.fakes.apiserver_resources import BY_PLURAL, Resource, Target
from tests.fakes.apiserver_selectors import Object, Predicate

Key = tuple[str, str, str]
"""Plural, namespace, name."""
_NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")


class Change(Struct, frozen=True):
    """One write: the object before (None: created) and after (None: deleted; `before` has the event's version then)."""

    version: int
    resource: Resource
    before: Object | None
    after: Object | None

    def event(self, target: Target, wanted: Predicate) -> tuple[str, Object] | None:
        """How a watch of this collection sees it."""
        if self.resource != target.resource or not _inside(self.after or self.before or {}, target):
            return None
        was = self.before is not None and wanted(self.before)
        if self.after is not None and wanted(self.after):
            return ("MODIFIED" if was else "ADDED"), self.after
        if was and self.before is not None:  # deleted, or left the selection: the old body at the new version
            return "DELETED", _with_version(self.before, self.version)
        return None


class Store:
    """All objects; `on_change` listeners hear of every write, in order."""

    def __init__(self) -> None:
        self.version = 1000
        self.compacted = 0
        self.history: list[Change] = []
        self.listeners: list[Callable[[Change], None]] = []
        self._objects: dict[Key, Object] = {}
        self._names = itertools.count(1)
        self._pages: dict[str, tuple[int, list[Object]]] = {}

    def find(self, plural: str, namespace: str | None, name: str) -> Object | None:
        return self._objects.get((plural, namespace or "", name))

    def get(self, target: Target) -> Object:
        found = self.find(target.resource.plural, target.namespace, target.name or "")
        if found is None:
            raise Refusal(404, "NotFound", f'{target.resource.plural} "{target.name}" not found')
        return found

    def select(self, target: Target, wanted: Predicate) -> list[Object]:
        """The objects of a collection, in etcd's order."""
        found = [self._objects[key] for key in sorted(self._objects) if key[0] == target.resource.plural]
        return [each for each in found if _inside(each, target) and wanted(each)]

    def page(self, found: list[Object], limit: int, token: str) -> tuple[int, list[Object], str, int]:
        """Version, items, continue token and remaining count of one page; later pages are of the first one's snapshot."""
        version = self.version
        if token:
            if token not in self._pages:
                raise Refusal(410, "Expired", "The provided continue parameter is too old to display a consistent list result.")
            version, found = self._pages[token]
        here, rest = (found[:limit], found[limit:]) if limit else (found, [])
        following = f"page-{next(self._names)}" if rest else ""
        if rest:
            self._pages[following] = (version, rest)
        return version, here, following, len(rest)

    def compact(self) -> None:
        """Forget history and snapshots: older watches and pages are answered 410."""
        self.compacted = self.version
        self.history.clear()
        self._pages.clear()

    def since(self, version: int) -> Sequence[Change]:
        if version < self.compacted:
            raise Refusal(410, "Expired", f"too old resource version: {version} ({self.compacted})")
        return [change for change in self.history if change.version > version]

    def create(self, target: Target, body: Object) -> Object:
        resource = target.resource
        new = copy.deepcopy(body)
        meta = new.setdefault("metadata", {})
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = f"{meta['generateName']}{next(self._names):05d}"
        name = meta.get("name", "")
        if not _NAME.match(name) or len(name) > 253:
            raise Refusal(422, "Invalid", f'{resource.kind} "{name}" is invalid: metadata.name: Invalid value: "{name}"')
        if meta.get("namespace", target.namespace) != target.namespace:
            raise Refusal(400, "BadRequest", "the namespace of the provided object does not match the namespace sent on the request")
        key = (resource.plural, target.namespace or "", name)
        if key in self._objects:
            raise Refusal(409, "AlreadyExists", f'{resource.plural} "{name}" already exists')
        if meta.get("resourceVersion"):
            raise Refusal(400, "BadRequest", "resourceVersion should not be set on objects to be created")
        new |= {"kind": resource.kind, "apiVersion": resource.api_version}
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": now}
        if resource.namespaced:
            meta["namespace"] = target.namespace
        if "spec" in new:
            meta["generation"] = 1
        if resource.status:
            new.pop("status", None)
        if resource.plural == "pods":
            new["status"] = {"phase": "Pending", "qosClass": "BestEffort"}
        return self._commit(key, resource, None, new)

    def patch(self, target: Target, patch: Object) -> Object:
        """RFC 7396 on the object, or on its status alone."""
        old = self.get(target)
        key = (target.resource.plural, target.namespace or "", target.name or "")
        asked = (patch.get("metadata") or {}).get("resourceVersion")
        if asked is not None and asked != old["metadata"]["resourceVersion"]:
            raise Refusal(
                409,
                "Conflict",
                f'Operation cannot be fulfilled on {key[0]} "{key[2]}": the object has been modified',
            )
        merged = merge(old, patch)
        if target.subresource == "status":
            new = old | {"status": merged.get("status", {})}
            _refuse_unfinishing(key, old, new)
        else:
            new = merged | {"kind": old["kind"], "apiVersion": old["apiVersion"]}
            fixed = ("uid", "creationTimestamp", "name", "namespace", "resourceVersion", "generation", "deletionTimestamp")
            new["metadata"] |= {field: old["metadata"][field] for field in fixed if field in old["metadata"]}
            if target.resource.status:
                new.pop("status", None)
                new |= {"status": old["status"]} if "status" in old else {}
            if new.get("spec") != old.get("spec"):
                new["metadata"] = new["metadata"] | {"generation": old["metadata"].get("generation", 0) + 1}
        return old if new == old else self._commit(key, target.resource, old, new)

    def delete(self, target: Target, options: Object, *, graceful: bool) -> Object:
        """Delete it, and what it owns; gracefully, a pod on a node is only marked until its kubelet has ended it."""
        old = self.get(target)
        meta = old["metadata"]
        for field, wanted in (options.get("preconditions") or {}).items():
            if wanted is not None and meta.get(field) != wanted:
                what = "UID" if field == "uid" else "ResourceVersion"
                raise Refusal(
                    409, "Conflict", f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {meta.get(field)}"
                )
        key = (target.resource.plural, target.namespace or "", target.name or "")
        if graceful and old.get("spec", {}).get("nodeName") and options.get("gracePeriodSeconds") != 0:
            if "deletionTimestamp" in meta:
                return old
            now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            grace = options.get("gracePeriodSeconds") or 30
            return self._commit(
                key, target.resource, old, old | {"metadata": meta | {"deletionTimestamp": now, "deletionGracePeriodSeconds": grace}}
            )
        self._commit(key, target.resource, old, None)
        for plural, namespace, name in [key for key, each in self._objects.items() if _owned(each, meta["uid"])]:
            owned = Target(resource=BY_PLURAL[plural], namespace=namespace, name=name)
            if self.find(plural, namespace, name) is not None:
                self.delete(owned, {}, graceful=graceful)
        return old

    def _commit(self, key: Key, resource: Resource, old: Object | None, new: Object | None) -> Object:
        self.version += 1
        if new is None:
            self._objects.pop(key)
        else:
            new = copy.deepcopy(_with_version(new, self.version))
            self._objects[key] = new
        change = Change(self.version, resource, old, new)
        self.history.append(change)
        for listener in list(self.listeners):
            listener(change)
        return new or {}


def merge(old: Any, patch: Any) -> Any:
    """RFC 7396, leaving both as they are."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(old) if isinstance(old, dict) else {}
    for field, value in patch.items():
        if value is None:
            merged.pop(field, None)
        else:
            merged[field] = merge(merged.get(field), value)
    return merged


def _with_version(found: Object, version: int) -> Object:
    return found | {"metadata": found["metadata"] | {"resourceVersion": str(version)}}


def _inside(found: Object, target: Target) -> bool:
    meta = found["metadata"]
    return target.namespace in (None, meta.get("namespace")) and target.name in (None, meta["name"])


def _owned(found: Object, uid: str) -> bool:
    return any(owner.get("uid") == uid for owner in found["metadata"].get("ownerReferences") or ())


def _refuse_unfinishing(key: Key, old: Object, new: Object) -> None:
    """The CRD's rule that a terminal phase is final."""
    before = (old.get("status") or {}).get("phase")
    if key[0] == "agenttasks" and before in ("Succeeded", "Failed") and new["status"].get("phase") != before:
        raise Refusal(422, "Invalid", f'AgentTask "{key[2]}" is invalid: status: Invalid value: a terminal phase is final')
