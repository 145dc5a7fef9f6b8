"""git's own HTTP server (`git http-backend`, a CGI program) behind aiohttp: repositories below one folder, with a password if wanted."""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestServer

GIT = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent"}
WHO = {f"GIT_{role}_{what}": "test" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def git(folder: Path, *arguments: str) -> str:
    """Run git as a test needs it, and give what it prints."""
    environment = {"PATH": os.environ["PATH"], **GIT, **WHO}
    done = subprocess.run(
        ["git", "-c", "init.defaultBranch=main", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.removesuffix("\n")


def repository(folder: Path, **files: str) -> Path:
    """A repository with one commit that has these files."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet")
    for name, content in files.items():
        (folder / name).write_text(content)
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", "first")
    return folder


@dataclass
class GitServer:
    """What it wants, and what it was asked."""

    root: Path
    port: int = 0
    authorization: str | None = None
    """The header that it wants."""
    status: int = 0
    """What it answers in place of git."""
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Authorization."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Ask the CGI program."""
        given = request.headers.get("Authorization")
        self.requests.append((request.path, given))
        if self.status:
            return web.Response(status=self.status, headers=self.headers)
        if self.authorization is not None and given != self.authorization:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})
        environment = {
            "PATH": os.environ["PATH"],
            **GIT,
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query_string,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
        }
        process = await asyncio.create_subprocess_exec(
            "git", "http-backend", env=environment, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        printed, _ = await process.communicate(await request.read())
        head, _, body = printed.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        return web.Response(status=int(fields.pop("Status", "200").split()[0]), headers=fields, body=body)


@contextlib.asynccontextmanager
async def git_server(root: Path) -> AsyncIterator[GitServer]:
    """A server on this machine, for as long as the block."""
    serving = GitServer(root)
    application = web.Application(client_max_size=1 << 26, handler_args={"auto_decompress": False})
    application.router.add_route("*", "/{path:.*}", serving.answer)
    server = TestServer(application, host="127.0.0.1")
    await server.start_server()
    assert server.port is not None
    serving.port = server.port
    try:
        yield serving
    finally:
        await server.close()
