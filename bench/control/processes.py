"""Processes of the benchmark, each with its log in a file; all end with the block that started them."""

import contextlib
import os
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

_STOP_SECONDS: Final = 15.0


class DidNotStart(RuntimeError):
    """A part ended at once or never became ready; the message has the end of its log."""


class Running:
    """One process that was started here."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name, self.log = name, log
        self._process = process

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def wait_until(self, ready: Callable[[], bool], seconds: float = 60.0) -> None:
        """Ask again and again whether it is ready.

        Raises:
            DidNotStart: it ended, or time is up.
        """
        end = time.monotonic() + seconds
        while not ready():
            status = self._process.poll()
            if status is not None or time.monotonic() > end:
                why = f"ended with {status}" if status is not None else f"is not ready after {seconds:.0f} s"
                raise DidNotStart(f"{self.name} {why}; the end of its log:\n{self.tail()}")
            time.sleep(0.1)

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def started(name: str, command: Sequence[str], folder: Path, environ: Mapping[str, str] | None = None) -> Iterator[Running]:
    """The process, until the block ends."""
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command), stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env={**os.environ, **(environ or {})}
        )
    running = Running(name, process, log)
    try:
        yield running
    finally:
        running.stop()


def answers(url: str, *, roots: Path | None = None, token: str = "") -> bool:
    """Whether this address says 200; without `roots` any certificate does."""
    context = ssl.create_default_context(cafile=roots)
    if roots is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=5) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False
