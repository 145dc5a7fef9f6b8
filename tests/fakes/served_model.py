"""`transformers serve`: a model behind an OpenAI-compatible server that others wrote, as a process on this machine."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fakes.held_port import held_port

_START_SECONDS = 240


@contextmanager
def served(folder: Path, log: Path) -> Iterator[str]:
    """The base URL of a server that answers with the model in `folder`; what it says is in `log`."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1", "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    with (
        held_port() as port,
        log.open("wb") as output,
        subprocess.Popen(_command(folder, port), env=environment, stdout=output, stderr=output) as process,
    ):
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()


def _command(folder: Path, port: int) -> list[str]:
    program = str(Path(sys.executable).parent / "transformers")
    batching = ["--continuous-batching", "--cb-num-blocks", "64"]
    return [program, "serve", str(folder), *batching, "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"transformers serve did not start: {log.read_text(errors='replace')[-2000:]}")
