"""Reads a kubeconfig's current context: certificates and tokens inline or in files, as kubectl would.

Exec plugins and auth providers (cloud logins, OIDC) are left to kubernetes_asyncio, imported only for a context that
uses one: it costs 37 MB of memory, and in a cluster nobody needs it.
"""

import base64
import binascii
import os
import ssl
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from agenttask.controller.authority import CaFile
from agenttask.controller.credentials import Credentials, LoginError
from agenttask.controller.tokens import REREAD_SECONDS, FileToken, FixedToken, TokenSource

Entry = dict[str, Any]


async def load(paths: str, *, clock: Callable[[], float]) -> Credentials:
    """The credentials of the current context; `paths` as in KUBECONFIG, separated by colons, the first to name something wins.

    Raises:
        LoginError: a file or entry is missing, malformed, or of a kind that is not supported.
    """
    merged = _merge(paths)
    if not merged["contexts"]:
        raise LoginError(f"no kubeconfig with contexts at {paths!r}")
    context = _named(merged, "contexts", merged["current-context"], "context")
    cluster = _named(merged, "clusters", context.get("cluster"), "cluster")
    user = _named(merged, "users", context.get("user"), "user") if context.get("user") else {}
    if "server" not in cluster:
        raise LoginError(f"cluster {context.get('cluster')!r} of the kubeconfig has no `server`")
    if "tls-server-name" in cluster:
        raise LoginError("`tls-server-name` in a kubeconfig is not supported; use a server address that its certificate names")
    token: TokenSource | None = None
    certificate: tuple[str, str] | None = None
    if "exec" in user or "auth-provider" in user:
        plugin = await PluginToken.start(paths, merged["current-context"], clock)
        token, certificate = plugin, plugin.certificate
        if plugin.certificate is not None:
            token = None
    elif user.get("tokenFile"):
        token = FileToken(Path(user["tokenFile"]), clock)
    elif user.get("token"):
        token = FixedToken(str(user["token"]))
    elif user.get("username"):
        raise LoginError("user names and passwords in a kubeconfig are not supported: Kubernetes removed them in 1.19")
    tls, authority = _tls(cluster, user, certificate, clock) if str(cluster["server"]).startswith("https") else (None, None)
    return Credentials(
        server=str(cluster["server"]).rstrip("/"),
        tls=tls,
        authority=authority,
        token=token,
        namespace=context.get("namespace"),
        proxy=cluster.get("proxy-url"),
    )


def _read(path: Path) -> Entry:
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise LoginError(f"kubeconfig {str(path)!r} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise LoginError(f"kubeconfig {str(path)!r} is no mapping")
    return found


def _merge(paths: str) -> Entry:
    merged: Entry = {"clusters": {}, "users": {}, "contexts": {}, "current-context": None}
    files = [Path(path).expanduser() for path in paths.split(os.pathsep) if path]
    for path in files:
        if not path.is_file():
            continue
        config = _read(path)
        merged["current-context"] = merged["current-context"] or config.get("current-context")
        for plural, singular in (("clusters", "cluster"), ("users", "user"), ("contexts", "context")):
            for each in config.get(plural) or []:
                entry = dict(each.get(singular) or {})
                for field in ("certificate-authority", "client-certificate", "client-key", "tokenFile"):
                    if entry.get(field):  # relative to the file that says it
                        entry[field] = str(path.parent / Path(entry[field]).expanduser())
                merged[plural].setdefault(each.get("name"), entry)
    return merged


def _named(merged: Entry, plural: str, name: str | None, what: str) -> Entry:
    try:
        found: Entry = merged[plural][name]
    except KeyError:
        known = ", ".join(map(repr, merged[plural])) or "none"
        raise LoginError(f"the kubeconfig has no {what} {name!r}; it has {known}") from None
    return found


def _tls(
    cluster: Entry, user: Entry, certificate: tuple[str, str] | None, clock: Callable[[], float]
) -> tuple[ssl.SSLContext, CaFile | None]:
    """The context, and the file of its CA where that is one which may change."""
    with ExitStack() as stack:
        try:
            ca = _file(stack, cluster, "certificate-authority")
            authority = CaFile(Path(ca), clock) if ca is not None and not cluster.get("certificate-authority-data") else None
            context = authority.context if authority is not None else ssl.create_default_context(cafile=ca)
            if cluster.get("insecure-skip-tls-verify"):
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            chain, key = certificate or (_file(stack, user, "client-certificate"), _file(stack, user, "client-key"))
            if chain is not None:
                context.load_cert_chain(chain, key)
        except (OSError, ssl.SSLError, binascii.Error) as error:
            raise LoginError(f"the kubeconfig's certificates cannot be read: {error}") from error
    return context, authority


def _file(stack: ExitStack, entry: Entry, field: str) -> str | None:
    """The path of what `field` names or `field-data` holds; ssl loads keys from files only."""
    if entry.get(f"{field}-data"):
        file = stack.enter_context(tempfile.NamedTemporaryFile())  # noqa: SIM115 - mode 0600, gone with the stack
        file.write(base64.b64decode(entry[f"{field}-data"], validate=True))
        file.flush()
        return file.name
    return entry.get(field)


class PluginToken:
    """The token of an exec plugin or auth provider; kubernetes_asyncio runs it and knows when it expires."""

    def __init__(self, loader: Any, configuration: Any, clock: Callable[[], float]) -> None:
        self._loader = loader
        self._configuration = configuration
        self._clock = clock
        self._asked_at = clock()

    @classmethod
    async def start(cls, paths: str, context: str, clock: Callable[[], float]) -> "PluginToken":
        """Run the plugin for the first time.

        Raises:
            LoginError: kubernetes_asyncio is not installed, or the plugin fails.
        """
        try:
            from kubernetes_asyncio import client, config
        except ImportError as error:
            raise LoginError(
                f"context {context!r} logs in by a plugin, which needs the package kubernetes-asyncio: pip install kubernetes-asyncio"
            ) from error
        configuration = client.Configuration()
        try:
            loader = await config.load_kube_config(config_file=paths, context=context, client_configuration=configuration)
        except Exception as error:  # the plugin's own failures have no common base
            raise LoginError(f"the login plugin of context {context!r} failed: {error}") from error
        return cls(loader, configuration, clock)

    @property
    def certificate(self) -> tuple[str, str] | None:
        """The client certificate and key files that the plugin gave instead of a token."""
        if "BearerToken" in self._configuration.api_key or not self._configuration.cert_file:
            return None
        return self._configuration.cert_file, self._configuration.key_file

    async def current(self, *, refused: str | None = None) -> str:
        """The token; the plugin is asked again once a minute, which it answers from its cache, or when it was refused."""
        if refused is not None:
            self._loader.exec_plugin_expiry = "1970-01-01T00:00:00Z"  # it knows no other way to be told
        if refused is not None or self._clock() - self._asked_at >= REREAD_SECONDS:
            self._asked_at = self._clock()
            await self._loader.load_and_set(self._configuration)
        return str(self._configuration.api_key.get("BearerToken", "")).removeprefix("Bearer ")
