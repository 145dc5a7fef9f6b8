"""A model hub on loopback, as far as a snapshot's download asks for: one repository, its files, revisions; `asked` has the paths."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40


class FakeHub:
    """`files` of `repository`; the revisions `main` and its commit are there. `fails` answers everything with that status."""

    def __init__(self, repository: str, files: Mapping[str, bytes]) -> None:
        self.repository = repository
        self.files = dict(files)
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.fails: int | None = None
        self.url = ""

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers, body."""
        if self.fails is not None:
            return self.fails, {}, b"{}"
        parts = [unquote(part) for part in path.strip("/").split("/")]
        owner = self.repository.split("/")
        size = len(owner)
        if parts[:2] == ["api", "models"] and parts[2 : 2 + size] == owner:
            rest = parts[2 + size :]
            if rest[:1] in (["revision"], ["tree"]) and rest[1] not in ("main", COMMIT):
                return 404, {"X-Error-Code": "RevisionNotFound"}, b'{"error": "no such revision"}'
            if rest[:1] == ["tree"]:
                entries = [{"type": "file", "path": name, "size": len(raw), "oid": self._tag(raw)} for name, raw in self.files.items()]
                return 200, {"Content-Type": "application/json"}, json.dumps(entries).encode()
            siblings = [{"rfilename": name} for name in self.files]
            body = {"id": self.repository, "modelId": self.repository, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
            return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()
        if parts[:size] == owner and parts[size] == "resolve":
            name = "/".join(parts[size + 2 :])
            if name in self.files:
                raw = self.files[name]
                return 200, {"ETag": f'"{self._tag(raw)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}, raw
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        return 404, {"X-Error-Code": "RepoNotFound"}, b'{"error": "no such repository"}'

    def _tag(self, raw: bytes) -> str:
        return hashlib.sha1(raw, usedforsecurity=False).hexdigest()


@contextmanager
def hub_server(hub: FakeHub) -> Iterator[FakeHub]:
    """Serve it; `hub.url` is for HF_ENDPOINT."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _send(self, *, body: bool) -> None:
            path = urlsplit(self.path).path
            hub.asked.append(path)
            hub.headers.append({name.lower(): value for name, value in self.headers.items()})
            status, headers, raw = hub.answer(path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(raw))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(raw)

        def do_GET(self) -> None:
            self._send(body=True)

        def do_HEAD(self) -> None:
            self._send(body=False)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
