"""What tasks refer to in their namespace: AgentModels, ConfigMaps, claims. Only what decisions need of them."""

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec
from msgspec import Struct

from agenttask.api.model import AgentModelSpec
from agenttask.controller.admission import MODEL, Key
from agenttask.controller.resource_version import comparable
from agenttask.controller.seen_model import SeenModel
from agenttask.controller.wire import PartialObject

logger: Final = logging.getLogger(__name__)


class _SecretName(Struct, frozen=True):
    name: str = ""


class _Credentials(Struct, frozen=True, rename="camel"):
    secret_key_ref: _SecretName = _SecretName()


class _LooseSpec(Struct, frozen=True):
    credentials: _Credentials | None = None


def read_model(spec: object) -> SeenModel:
    """The model in a body; of one that cannot be read at least the Secret, which no task may name."""
    try:
        read = msgspec.convert(spec, AgentModelSpec)
    except msgspec.ValidationError as error:
        return SeenModel(spec=None, problem=str(error).replace("`$", "`spec"), secret=_secret(spec))
    return SeenModel(spec=read, secret=read.credentials.secret_key_ref.name if read.credentials is not None else "")


def _secret(spec: object) -> str:
    try:
        credentials = msgspec.convert(spec, _LooseSpec).credentials
    except msgspec.ValidationError:
        return ""
    return credentials.secret_key_ref.name if credentials is not None else ""


class Models:
    """AgentModels by namespace and name. kopf keeps the order of events for each uid, and not for two that had the same name in turn."""

    def __init__(self, wake: Callable[[Key], None]) -> None:
        self._models: dict[str, dict[str, SeenModel]] = {}
        self._told: dict[tuple[str, str], tuple[str, int]] = {}
        """The uid and the resourceVersion of each."""
        self._wake = wake

    def of(self, namespace: str) -> Mapping[str, SeenModel]:
        """The models of a namespace."""
        return MappingProxyType(self._models.get(namespace, {}))

    def put(self, body: Mapping[str, Any]) -> None:
        """A model appeared or changed; an older one of the same name never replaces a newer one."""
        namespace, name = _place(body)
        uid, version = _identity(body)
        known, latest = self._told.get((namespace, name), (uid, 0))
        if known != uid and latest > version:
            return
        self._told[namespace, name] = uid, version
        self._models.setdefault(namespace, {})[name] = read_model(body.get("spec"))
        self._wake((MODEL, namespace, name))

    def gone(self, body: Mapping[str, Any]) -> None:
        """A model was deleted; another one may have its name by now."""
        namespace, name = _place(body)
        if self._told.get((namespace, name), ("", 0))[0] == _identity(body)[0]:
            self.remove(namespace, name)

    def remove(self, namespace: str, name: str) -> None:
        """There is no model of this name."""
        self._told.pop((namespace, name), None)
        models = self._models.get(namespace, {})
        models.pop(name, None)
        if not models:
            self._models.pop(namespace, None)

    def names(self) -> list[tuple[str, str]]:
        """All of them, as namespace and name."""
        return [(namespace, name) for namespace, models in self._models.items() for name in models]


class Presence:
    """Which ConfigMaps and claims exist, by their keys; nothing of their contents."""

    def __init__(self, wake: Callable[[Key], None]) -> None:
        self._there: set[Key] = set()
        self._wake = wake

    def __contains__(self, key: Key) -> bool:
        return key in self._there

    def on_change(self, kind: str) -> Callable[[PartialObject | None, PartialObject | None], None]:
        """The callback for a reflector of this kind."""

        def changed(old: PartialObject | None, new: PartialObject | None) -> None:
            one = new if new is not None else old
            if one is None:
                return
            key = (kind, one.metadata.namespace, one.metadata.name)
            if new is None:
                self._there.discard(key)
            elif key not in self._there:
                self._there.add(key)
                self._wake(key)

        return changed


def _place(body: Mapping[str, Any]) -> tuple[str, str]:
    metadata = body.get("metadata", {})
    return str(metadata.get("namespace", "")), str(metadata.get("name", ""))


def _identity(body: Mapping[str, Any]) -> tuple[str, int]:
    """The uid, and the resourceVersion as a number."""
    metadata = body.get("metadata", {})
    return str(metadata.get("uid", "")), comparable(str(metadata.get("resourceVersion", "")))
