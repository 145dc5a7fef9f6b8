"""What the environment says of tracing: whether and where to export, what a pod is given, what names this process.

Pure functions of a mapping, so that a process without an endpoint decides so before anything of OpenTelemetry is
imported. The names are OpenTelemetry's own; whoever sets them wins over our defaults.
"""

from collections.abc import Mapping
from urllib.parse import quote, urlsplit, urlunsplit

from agenttask.telemetry.names import Attribute

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
TRACES_PROTOCOL = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
SDK_DISABLED = "OTEL_SDK_DISABLED"
TRACES_EXPORTER = "OTEL_TRACES_EXPORTER"
RESOURCE_ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES"
HTTP_PROTOBUF = "http/protobuf"
TRACES_PATH = "/v1/traces"

FORWARDED = (ENDPOINT, TRACES_ENDPOINT, PROTOCOL, TRACES_PROTOCOL, "OTEL_EXPORTER_OTLP_COMPRESSION")
"""What a task's pod gets of ours. An allow-list: `OTEL_EXPORTER_OTLP_HEADERS` holds a credential, and a tenant could read it."""
RESOURCE_VARIABLES: Mapping[str, Attribute] = {
    "K8S_NAMESPACE_NAME": Attribute.NAMESPACE,
    "K8S_POD_NAME": Attribute.POD,
    "K8S_POD_UID": Attribute.POD_UID,
    "K8S_NODE_NAME": Attribute.NODE,
    "K8S_CONTAINER_NAME": Attribute.CONTAINER,
}
"""Variables that the downward API may fill, and what they say of this process."""


class UnusableEndpoint(ValueError):
    """Tracing is asked for in a way that we cannot serve; the message has the remedy."""


def traces_url(environ: Mapping[str, str]) -> str | None:
    """Where spans are sent, or None where tracing is not asked for.

    Raises:
        UnusableEndpoint: no http(s) URL, or a protocol other than http/protobuf.
    """
    specific, general = environ.get(TRACES_ENDPOINT, "").strip(), environ.get(ENDPOINT, "").strip()
    if not (specific or general) or _is_off(environ):
        return None
    protocol = (environ.get(TRACES_PROTOCOL) or environ.get(PROTOCOL) or HTTP_PROTOBUF).strip()
    if protocol != HTTP_PROTOBUF:
        raise UnusableEndpoint(f"OTLP protocol {protocol!r} is not spoken here; set {PROTOCOL}={HTTP_PROTOBUF} (usually port 4318)")
    name, value = (TRACES_ENDPOINT, specific) if specific else (ENDPOINT, general)
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UnusableEndpoint(f"{name}={_without_credentials(value)!r} is no URL; write it as http://host:4318")
    return specific or general.removesuffix("/") + TRACES_PATH


def with_endpoint(environ: Mapping[str, str], endpoint: str) -> dict[str, str]:
    """The environment with an endpoint of the settings, which a variable overrides."""
    return {**({ENDPOINT: endpoint} if endpoint else {}), **environ}


def forwarded(environ: Mapping[str, str]) -> dict[str, str]:
    """What a pod needs to export to the same place; credentials in a URL are taken out."""
    return {name: _without_credentials(environ[name]) for name in FORWARDED if environ.get(name)}


def resource_attributes(environ: Mapping[str, str]) -> dict[str, str]:
    """What the downward API told this process of itself."""
    return {str(attribute): environ[name] for name, attribute in RESOURCE_VARIABLES.items() if environ.get(name)}


def encode_resource(attributes: Mapping[str, str]) -> str:
    """The value of OTEL_RESOURCE_ATTRIBUTES for these attributes."""
    return ",".join(f"{name}={quote(value, safe='')}" for name, value in attributes.items() if value)


def _is_off(environ: Mapping[str, str]) -> bool:
    exporters = {name.strip().lower() for name in environ.get(TRACES_EXPORTER, "otlp").split(",")}
    return environ.get(SDK_DISABLED, "").strip().lower() == "true" or not exporters & {"", "otlp"}


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
