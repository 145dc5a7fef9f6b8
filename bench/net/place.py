"""Where HTTP benchmarks take place: an endpoint on loopback, or behind a line with a true round-trip time."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
PORT = 18443
NEAR, FAR = "10.99.0.1", "10.99.0.2"
SYSTEM_ROOTS = Path("/etc/ssl/certs/ca-certificates.crt")


class Place(NamedTuple):
    """An endpoint; `prefix` is what starts a client that reaches it, `roots` a file of certificates to trust."""

    url: str
    prefix: tuple[str, ...]
    roots: Path


def lacking(*, line: bool) -> str:
    """Why there is no such place on this machine; empty when there is."""
    tools = ("node", "openssl", *(("cc", "ip") if line else ()))
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} missing"
    if line and (os.geteuid() != 0 or not Path("/dev/net/tun").exists()):
        return "a line with a round-trip time needs root and /dev/net/tun"
    return ""


@contextlib.contextmanager
def loopback() -> Iterator[Place]:
    """On this machine, without delay."""
    with tempfile.TemporaryDirectory(prefix="agenttask-bench-") as folder:
        pki = _certificates(Path(folder), "127.0.0.1")
        with _started(["node", str(HERE / "llm.mjs")], "ready", {"HOST": "127.0.0.1", "PORT": str(PORT), "PKI": str(pki)}):
            yield Place(f"https://127.0.0.1:{PORT}", (), pki / "roots.pem")


@contextlib.contextmanager
def far_away(one_way_ms: float) -> Iterator[Place]:
    """Behind a line: both ends in network namespaces of their own."""
    with tempfile.TemporaryDirectory(prefix="agenttask-bench-") as folder, contextlib.ExitStack() as stack:
        pki = _certificates(Path(folder), FAR)
        subprocess.run(["cc", "-O2", "-o", f"{folder}/rtt", HERE / "rtt.c"], check=True)
        near, far = f"at-near-{os.getpid()}", f"at-far-{os.getpid()}"
        for space in (near, far):
            subprocess.run(["ip", "netns", "add", space], check=True)
            stack.callback(subprocess.run, ["ip", "netns", "del", space], check=False)
        stack.enter_context(_started([f"{folder}/rtt", near, NEAR, far, FAR, str(one_way_ms)], "up", {}))
        server = ["ip", "netns", "exec", far, "node", str(HERE / "llm.mjs")]
        stack.enter_context(_started(server, "ready", {"HOST": FAR, "PORT": str(PORT), "PKI": str(pki)}))
        yield Place(f"https://{FAR}:{PORT}", ("ip", "netns", "exec", near), pki / "roots.pem")


def _certificates(folder: Path, address: str) -> Path:
    """A throw-away authority and a leaf; the roots are the system's and ours: a client that loads them pays what it would in a pod."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    openssl("ecparam", "-genkey", "-name", "prime256v1", "-out", "ca.key")
    usage = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"]
    openssl("req", "-x509", "-new", "-key", "ca.key", "-days", "2", "-subj", "/CN=bench", "-out", "ca.pem", *usage)
    openssl("ecparam", "-genkey", "-name", "prime256v1", "-out", "srv.key")
    openssl("req", "-new", "-key", "srv.key", "-subj", "/CN=localhost", "-out", "srv.csr")
    (folder / "ext").write_text(f"subjectAltName=IP:{address}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n")
    openssl("x509", "-req", "-in", "srv.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2", "-extfile", "ext", "-out", "srv.pem")
    system = SYSTEM_ROOTS.read_text() if SYSTEM_ROOTS.exists() else ""
    (folder / "roots.pem").write_text(system + (folder / "ca.pem").read_text())
    return folder


@contextlib.contextmanager
def _started(command: list[str], word: str, environ: dict[str, str]) -> Iterator[None]:
    """A process that is ready when it prints this word; ended with the block."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environ})
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != word:
            raise RuntimeError(f"{command[0]} did not start")
        yield
    finally:
        process.terminate()
        process.wait()
