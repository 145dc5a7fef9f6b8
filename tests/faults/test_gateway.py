"""The gateway of a controller on a real API server: requests that are forged, replayed, expired or too large."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from agenttask.api.constants import ANNOTATION_DOCUMENT, ENV_GATEWAY_TOKEN
from agenttask.api.gateway import CHECKPOINT_PATH, MAX_RECORD_BYTES, OUTPUT_PATH, REPORT_PATH
from agenttask.controller.gateway.tokens import Tokens, read_keys
from tests.fakes.gateway_desk import SecretFolder
from tests.fakes.held_port import held_port
from tests.fakes.kubelet import FakePod, said
from tests.faults.arena import Arena, Open
from tests.faults.checker import End
from tests.faults.lives import SUCCEEDED
from tests.faults.paths import path

PATHS = (("GET", CHECKPOINT_PATH), ("PUT", CHECKPOINT_PATH), ("PUT", OUTPUT_PATH), ("POST", REPORT_PATH))
TWICE = End(phase="Succeeded", reason="Succeeded", output="done", pods=2)


@asynccontextmanager
async def flags(folder: Path) -> AsyncIterator[list[str]]:
    """The settings of a controller with a gateway of its own, on a port that stays its own."""
    await asyncio.to_thread(folder.mkdir)
    SecretFolder(folder, host="localhost")
    with held_port() as port:
        yield [f"gateway.port={port}", f"gateway.url=https://localhost:{port}", f"gateway.certificateDir={folder}", "gateway.enabled=true"]


class Runner:
    """A pod's side of it, from what stands in the pod."""

    def __init__(self, pod: dict[str, Any]) -> None:
        document = json.loads(pod["metadata"]["annotations"][ANNOTATION_DOCUMENT])
        variables = {one["name"]: one.get("value", "") for one in pod["spec"]["containers"][0]["env"]}
        self.url, self.token = document["gateway"]["url"], variables[ENV_GATEWAY_TOKEN]
        self._tls = ssl.create_default_context(cadata=document["gateway"]["ca"])

    async def ask(self, method: str, where: str, body: bytes = b"x", *, token: str | None = None) -> int:
        """The status of the answer."""
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.url + where, data=body, headers=headers, ssl=self._tls) as answer,
        ):
            return answer.status


def runner(here: Arena, task: str) -> Runner:
    """The runner of the task's newest pod."""
    return Runner(max(here.recorder.pods(task), key=lambda pod: pod["metadata"]["labels"]["agenttask.dev/attempt"]))


async def stored(here: Arena) -> dict[str, str]:
    """What the records hold as output, by task."""
    listed = await here.api.get(path("agenttaskrecords", here.namespace))
    return {one["task"]: one.get("output", "") for one in listed["items"]}


async def test_forged_expired_and_oversized_requests_change_nothing(run: Open, tmp_path: Path) -> None:
    finish = asyncio.Event()

    async def script(pod: FakePod) -> None:
        await pod.start()
        await finish.wait()
        await pod.end(said(pod.attempt))

    secret = tmp_path / "secret"
    async with flags(secret) as settings, run(*settings) as (here, _, _):
        for name in ("mine", "theirs"):
            await here.create(name, script)
            await here.recorder.until_phase(name, "Running")
        mine, theirs = runner(here, "mine"), runner(here, "theirs")
        assert await mine.ask("PUT", OUTPUT_PATH, b"of mine") == 204
        keys = Tokens(read_keys((secret / "token.key").read_bytes()))
        claims = keys.read(theirs.token, time.time())
        forged = {
            "none": "",
            "of another key": Tokens((b"another" * 8,)).issue(claims),
            "their claims, my signature": f"{theirs.token.split('.')[0]}.{mine.token.split('.')[1]}",
            "expired": keys.issue(msgspec.structs.replace(claims, expires=int(time.time()) - 1)),
            "of 8000 characters": "a" * 8000,
        }
        for method, where in PATHS:
            assert {word: await mine.ask(method, where, token=token) for word, token in forged.items()} == dict.fromkeys(forged, 401)
        foreign = keys.issue(msgspec.structs.replace(claims, task="mine"))
        assert await mine.ask("PUT", OUTPUT_PATH, token=foreign) == 403
        assert await mine.ask("PUT", OUTPUT_PATH, bytes(MAX_RECORD_BYTES + 1)) == 413
        assert await mine.ask("POST", REPORT_PATH, b'{"steps": [[64, "S"]]}') == 400
        finish.set()
        await here.judge({"mine": SUCCEEDED, "theirs": SUCCEEDED})
        assert await stored(here) == {"mine": "of mine"}


async def test_tokens_are_good_for_one_attempt_of_one_task_while_it_runs(run: Open, tmp_path: Path) -> None:
    """Replayed: after the pod has ended, when the next attempt runs, and for a task made anew under the name."""
    seen = asyncio.Event()

    async def script(pod: FakePod) -> None:
        await pod.start()
        if pod.attempt == 1:
            await asyncio.Event().wait()
        await seen.wait()
        await pod.end(said(pod.attempt))

    async with flags(tmp_path / "secret") as settings, run(*settings) as (here, _, _):
        for name in ("again", "twin"):
            await here.create(name, script, retry={"backoff": {"initialSeconds": 1}})
            await here.recorder.until_phase(name, "Running")
        first, old = runner(here, "again"), runner(here, "twin")
        assert await first.ask("PUT", OUTPUT_PATH, b"of the first") == 204
        await next(pod for pod in here.kubelet.pods.values() if pod.task == "again").evicted()
        await here.recorder.until(lambda: here.recorder.status("again").get("attempt") == 2)
        for method, where in PATHS:
            assert await first.ask(method, where) == 403
        await here.delete("twin")
        await here.recorder.until(lambda: here.recorder.task("twin") is None)
        here.scripts.pop("twin")
        seen.set()
        await here.create("twin")
        await here.recorder.until_phase("twin", "Succeeded")
        for method, where in PATHS:
            assert await old.ask(method, where) == 403
        await here.recorder.until_phase("again", "Succeeded")
        ended = runner(here, "again")
        assert await ended.ask("PUT", OUTPUT_PATH, b"too late") == 403
        await here.judge({"again": TWICE, "twin": SUCCEEDED})
        assert "too late" not in (await stored(here)).values()
