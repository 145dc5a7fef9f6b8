"""The controller as a process on the fake API server: probes, SIGTERM, and what it says when it cannot start."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import yaml
from tests.fakes.apiserver import FakeApiServer, PodRun
from tests.fakes.controller_program import ended, node, success, task
from tests.fakes.cut_off_watch import without_cut_off_watches
from tests.fakes.grace_period import GRACE_SECONDS
from tests.fakes.held_port import held_port

from agenttask.controller import main as main_module
from agenttask.controller.main import main
from agenttask.domain.deadlines import WAITING_SETTLES

Process = asyncio.subprocess.Process


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer(bookmark_seconds=0.5) as server:
        server.put("nodes", node())
        server.kubelet.auto_run(success)
        yield server


@pytest.fixture
def port() -> Iterator[int]:
    with held_port() as port:
        yield port


def environment(folder: Path, url: str) -> dict[str, str]:
    """This one, with a kubeconfig for the server."""
    context = {"name": "here", "context": {"cluster": "here"}}
    cluster = {"name": "here", "cluster": {"server": url}}
    (folder / "kubeconfig").write_text(yaml.safe_dump({"current-context": "here", "contexts": [context], "clusters": [cluster]}))
    return {**os.environ, "KUBECONFIG": str(folder / "kubeconfig"), "NO_PROXY": "*"}


@asynccontextmanager
async def controller(*arguments: str, environ: dict[str, str]) -> AsyncIterator[Process]:
    """The process; killed if it has not ended by itself."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agenttask.controller.main", *arguments, env=environ, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def probe(port: int, path: str) -> tuple[int, str]:
    """Status and text of a probe; 0 while nobody listens."""
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, await answer.text()
    except aiohttp.ClientError:
        return 0, ""


async def until_readyz(port: int, status: int) -> str:
    """What /readyz says, once it answers with this status."""
    async with asyncio.timeout(180):
        while True:
            found, text = await probe(port, "/readyz")
            if found == status:
                return text
            await asyncio.sleep(0.05)


async def test_it_serves_tasks_answers_probes_and_ends_within_seconds_of_sigterm(server: FakeApiServer, tmp_path: Path, port: int) -> None:
    server.kubelet.auto_run(lambda pod: PodRun(run_seconds=60) if pod["metadata"]["name"].startswith("long") else success(pod))
    environ = environment(tmp_path, server.url) | {"AGENTTASK_CONTROLLER_PROBE_PORT": str(port)}
    async with controller("--namespace", "default", environ=environ) as process:
        await until_readyz(port, 200)
        assert await probe(port, "/healthz") == (200, "ok")
        came = time.monotonic()
        server.put("agenttasks", task("a"))
        await ended(server, "a")
        server.put("agenttasks", task("long"))
        await server.until(lambda: len(server.objects("pods")) == 2)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, said = await process.communicate()
        ends = time.monotonic()

    assert (process.returncode, "Traceback" in without_cut_off_watches(said.decode())) == (0, False), said.decode()
    assert ends - began < GRACE_SECONDS / 2
    made = [method for method, _ in server.writes]
    assert (made.count("POST"), made[0], set(made)) == (2, "POST", {"POST", "PATCH"})
    # One end; on a machine so busy that a state lasts, each task may be told to start for two reasons, and to run, as well.
    assert made.count("PATCH") <= (1 if ends - came < WAITING_SETTLES else 7), server.writes
    assert b'"message": "default/a: Succeeded (Succeeded)"' in said


async def test_it_is_not_ready_while_a_list_is_refused_and_still_ends_at_once(server: FakeApiServer, tmp_path: Path, port: int) -> None:
    server.fail_next("GET", "/api/v1/pods", 403, times=10_000)
    environ = environment(tmp_path, server.url)
    async with controller("--set", f"probePort={port}", "--set", "logging.format=text", environ=environ) as process:
        assert (await until_readyz(port, 503)).startswith("the first lists are not complete")
        await server.until(lambda: any("/pods" in path for _, path in server.requests))
        assert await probe(port, "/healthz") == (200, "ok")
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, said = await process.communicate()

    assert process.returncode == 0
    assert time.monotonic() - began < GRACE_SECONDS / 2
    assert b"watch of /api/v1/pods failed: 403 Forbidden" in said


def test_wrong_settings_end_it_with_a_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--set", "worker=1"]) == 2
    assert main(["--config", str(tmp_path / "absent.yaml")]) == 2

    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("agenttask-controller: unknown setting 'worker'")
    assert first.endswith("did you mean 'workers'?")
    assert "absent.yaml' cannot be read" in second


async def test_without_credentials_it_ends_with_a_sentence(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("KUBE")} | {"HOME": str(tmp_path)}
    async with controller(environ=environ) as process:
        _, said = await process.communicate()

    assert process.returncode == 2
    assert b"no credentials: KUBECONFIG is not set" in said
    assert b"Traceback" not in said


async def test_a_gateway_without_its_secret_ends_it_with_a_sentence(server: FakeApiServer, tmp_path: Path) -> None:
    settings = ["gateway.enabled=true", "gateway.url=https://localhost:1", f"gateway.certificateDir={tmp_path}"]
    async with controller(*(word for one in settings for word in ("--set", one)), environ=environment(tmp_path, server.url)) as process:
        _, said = await process.communicate()

    assert process.returncode == 2
    assert b"the gateway's Secret needs tls.crt, tls.key, ca.crt, token.key" in said
    assert b"Traceback" not in said


def test_settings_come_from_a_config_file_and_namespaces_from_flags(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("workers: 3")
    flags = main_module._parser().parse_args(["--config", str(tmp_path / "config.yaml"), "--namespace", "a", "--namespace", "b"])
    found = main_module._settings(flags)

    assert (found.workers, found.namespaces) == (3, ("a", "b"))


async def test_a_part_that_ends_by_itself_ends_the_process(server: FakeApiServer, tmp_path: Path) -> None:
    """Kubernetes starts it anew: half a controller is worse than none."""
    (tmp_path / "broken.py").write_text(
        "import runpy, sys\n"
        "from agenttask.controller.surroundings import Presence\n"
        "Presence.on_change = lambda self, kind: (lambda old, new: 1 / 0)\n"
        "sys.argv = ['agenttask-controller', '--set', 'probePort=0']\n"
        "from agenttask.controller.main import main\n"
        "sys.exit(main())\n"
    )
    server.put("configmaps", {"metadata": {"name": "any"}})
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(tmp_path / "broken.py"), env=environment(tmp_path, server.url), stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(180):
        _, said = await process.communicate()

    assert process.returncode == 1, said.decode()
    assert b"watch of /api/v1/configmaps ended: ZeroDivisionError" in said
