"""No endpoint: nothing runs, nothing is logged. Seen from outside, in a process of its own."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, logging, os, sys, threading
logging.basicConfig(level=logging.DEBUG)
from agenttask.telemetry.setup import configure
from agenttask.runner import tracing as runner_tracing
import importlib.util
if importlib.util.find_spec("agenttask.controller.tracing"):
    import agenttask.controller.tracing
telemetry = configure(os.environ, service="agenttask-test")
print(json.dumps({
    "telemetry": telemetry is not None,
    "sdk": sorted(name for name in sys.modules if name.split(".")[0] == "opentelemetry"),
    "threads": threading.active_count(),
}))
"""


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({}, id="no endpoint"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}, id="disabled"),
    ],
)
def test_without_an_endpoint_no_sdk_is_imported_no_thread_runs_and_nothing_is_logged(environ):
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environ, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == {"telemetry": False, "sdk": [], "threads": 1}
    assert done.stderr == ""
