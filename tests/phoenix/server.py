"""Phoenix as a process on free ports of one address, with its store in a folder that is thrown away."""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from msgspec import Struct

from tests.fakes.held_port import held_port

_START_SECONDS = 300.0
_PROJECT = "default"
_QUIET = {
    "PHOENIX_TELEMETRY_ENABLED": "false",
    "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
    "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
    "PHOENIX_ALLOWED_SANDBOX_PROVIDERS": "NONE",
}
"""Without these it looks up a documentation server and downloads a sandbox when it starts."""
_WATCH = Path(__file__).with_name("outbound")


class StoredSpan(Struct, frozen=True, kw_only=True):
    """One span as the query API gives it."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str | None
    kind: str
    status: str
    attributes: dict[str, Any]


class Phoenix:
    """`with Phoenix(python, folder) as phoenix:`; `host` is the address to listen on, for pods the node's."""

    def __init__(self, python: Path, folder: Path, *, host: str = "127.0.0.1") -> None:
        self._python = python
        self._folder = folder
        self._host = host
        self._attempts = folder / "outbound.log"
        self._log = folder / "phoenix.log"
        self._holding = ExitStack()

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._attempts.touch()
        self._port, grpc = (self._holding.enter_context(held_port(self._host)) for _ in range(2))
        environ = {
            "PATH": os.defpath,
            "HOME": str(self._folder),
            "PYTHONPATH": str(_WATCH),
            "OUTBOUND_LOG": str(self._attempts),
            "PHOENIX_HOST": self._host,
            "PHOENIX_PORT": str(self._port),
            "PHOENIX_GRPC_PORT": str(grpc),
            "PHOENIX_WORKING_DIR": str(self._folder),
            **_QUIET,
        }
        with self._log.open("w") as log:
            command = [str(self._python), "-m", "phoenix.server.main", "serve"]
            self._process = subprocess.Popen(command, env=environ, cwd=self._folder, stdout=log, stderr=log, start_new_session=True)
        try:
            self._wait_until_up()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    @property
    def endpoint(self) -> str:
        """The value for OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://{self._host}:{self._port}"

    def spans(self, trace_id: str) -> list[StoredSpan]:
        """What is stored of one trace."""
        query = urllib.parse.urlencode({"trace_id": trace_id, "limit": 1000})
        try:
            found = self._get(f"/v1/projects/{_PROJECT}/spans?{query}")["data"]
        except urllib.error.HTTPError as error:
            if error.code == 404:  # the project is made with its first span
                return []
            raise
        return [
            StoredSpan(
                name=span["name"],
                trace_id=span["context"]["trace_id"],
                span_id=span["context"]["span_id"],
                parent_id=span["parent_id"],
                kind=span["span_kind"],
                status=span["status_code"],
                attributes=span["attributes"],
            )
            for span in found
        ]

    def wait_for(self, trace_id: str, count: int, *, seconds: float = 120.0) -> list[StoredSpan]:
        """The spans of a trace, when at least `count` are stored."""
        deadline = time.monotonic() + seconds
        while len(spans := self.spans(trace_id)) < count:
            if time.monotonic() > deadline:
                raise AssertionError(f"{count} spans expected within {seconds} s, {len(spans)} are stored: {[span.name for span in spans]}")
            time.sleep(0.2)
        return spans

    def outbound_attempts(self) -> list[str]:
        """Every address outside of this machine that the server tried to reach."""
        return self._attempts.read_text().splitlines()

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.endpoint}{path}", timeout=60) as response:
            return json.load(response)

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Phoenix did not start within {_START_SECONDS} s:\n{self._log.read_text()[-2000:]}")
            try:
                with urllib.request.urlopen(f"{self.endpoint}/healthz", timeout=5):
                    return
            except OSError:
                time.sleep(0.3)

    def _stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._holding.close()
