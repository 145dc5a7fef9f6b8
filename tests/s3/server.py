"""versitygw as a process on a free port of one address, over folders that are thrown away."""

import os
import signal
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.fakes.held_port import held_port

_START_SECONDS = 120.0
REGION = "us-east-1"
ACCESS_KEY, SECRET_KEY = "AKTESTTESTTESTTEST00", "s3cret-s3cret-s3cret-s3cret"


class S3Server:
    """`with S3Server(program, folder) as server:`; `host` is the address to listen on, for pods the node's.

    With `certificate`, a PEM file of key and chain, it speaks TLS.
    """

    def __init__(self, program: Path, folder: Path, *, host: str = "127.0.0.1", certificate: Path | None = None) -> None:
        self._program, self._folder, self._host, self._certificate = program, folder, host, certificate
        self._log = folder / "versitygw.log"
        self._data = folder / "data"
        self._holding = ExitStack()

    def __enter__(self) -> Self:
        for name in ("data", "about"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        self._port = self._holding.enter_context(held_port(self._host))
        tls = [] if self._certificate is None else ["--cert", str(self._certificate), "--key", str(self._certificate)]
        keys = ["--access", ACCESS_KEY, "--secret", SECRET_KEY, "--region", REGION]
        place = ["posix", "--sidecar", str(self._folder / "about"), str(self._data)]
        command = [str(self._program), "--port", f"{self._host}:{self._port}", *keys, *tls, *place]
        with self._log.open("w") as log:
            environ = {"PATH": os.defpath, "HOME": str(self._folder)}
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
        """Its base URL."""
        return f"{'http' if self._certificate is None else 'https'}://{self._host}:{self._port}"

    def bucket(self, name: str) -> None:
        """Make a bucket: every folder is one."""
        (self._data / name).mkdir()

    def objects(self, bucket: str) -> dict[str, bytes]:
        """What a bucket has, by key, as it lies on the disk."""
        top = self._data / bucket
        return {str(each.relative_to(top)): each.read_bytes() for each in top.rglob("*") if each.is_file() and ".sgwtmp" not in each.parts}

    def _wait_until_up(self) -> None:
        end = time.monotonic() + _START_SECONDS
        while True:
            try:
                with socket.create_connection((self._host, self._port), timeout=1):
                    return
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"versitygw did not start: {error}\n{self._log.read_text()[-2000:]}") from error
            time.sleep(0.05)

    def _stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._holding.close()
