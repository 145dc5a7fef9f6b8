"""Turning tracing on, if the environment asks for it.

Nothing of OpenTelemetry is imported before that is known: no SDK, no thread and no log line without an endpoint.
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from agenttask.telemetry.environment import UnusableEndpoint, resource_attributes, traces_url

if TYPE_CHECKING:
    from agenttask.telemetry.pipeline import Telemetry

logger = logging.getLogger(__name__)


def configure(environ: Mapping[str, str], *, service: str, version: str = "") -> "Telemetry | None":
    """The pipeline for spans of this process, or None where no OTLP endpoint is set or it cannot be used.

    Args:
        environ: decides whether and where spans go. The SDK reads what else there is (headers, certificates, time-outs,
            batch sizes, sampler, `OTEL_SERVICE_NAME`) from the process's own environment.
        service: `service.name`, unless the user's environment names another.
        version: `service.version`, likewise.
    """
    try:
        url = traces_url(environ)
    except UnusableEndpoint as problem:
        logger.warning("tracing is off: %s", problem)
        return None
    if url is None:
        return None
    from agenttask.telemetry.pipeline import Telemetry  # the SDK costs 0.4 s and 17 MiB: only for those who use it

    resource = {"service.name": service, **({"service.version": version} if version else {}), **resource_attributes(environ)}
    return Telemetry(url=url, resource=resource)
