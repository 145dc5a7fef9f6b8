"""The runner as a process, with an object store: credentials that go no further, an output of two MiB, and SIGTERM on the way there."""

import json
import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from tests.conftest import cluster_required
from tests.go_install import NoGo
from tests.s3.install import versitygw
from tests.s3.server import ACCESS_KEY, REGION, SECRET_KEY, S3Server

from agenttask.api.reasons import Reason

BUCKET, MIB = "outputs", 1 << 20
SECRET = {"AGENTTASK_STORE_aws_access_key_id": ACCESS_KEY, "AGENTTASK_STORE_aws_secret_access_key": SECRET_KEY}
NOBODY_LISTENS = "http://127.0.0.1:9"
JOINED = "{{ steps.s0.text }}{{ steps.s1.text }}"
ADDRESS = "s3://outputs/x/n/demo/u/attempt-3/output"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    try:
        program = versitygw(print)
    except NoGo as error:
        if cluster_required():
            raise
        pytest.skip(str(error))
    with S3Server(program, tmp_path_factory.mktemp("s3")) as server:
        server.bucket(BUCKET)
        yield server


def command(text: str) -> dict[str, Any]:
    return {"exec": {"command": ["sh", "-c", text]}}


def start(pod: Any, endpoint: str, *steps: dict[str, Any], output: str = JOINED, **variables: str) -> None:
    named = [{"name": f"s{index}", **step} for index, step in enumerate(steps)]
    document = {
        "version": 2,
        "task": {"name": "demo", "namespace": "n", "uid": "u"},
        "attempt": 3,
        "spec": {"steps": named, "output": output},
        "outputStore": {"url": f"s3://{BUCKET}/x", "options": {"endpoint": endpoint, "region": REGION, "allow_http": "true"}},
    }
    pod.start(raw=json.dumps(document), variables={**SECRET, **variables})


def test_an_output_of_two_mib_is_joined_and_left_in_the_store(pod: Any, server: S3Server) -> None:
    start(pod, server.endpoint, *(command(f"yes {word} | head -c {MIB}") for word in ("one", "two")))
    code, log = pod.end()
    report = pod.report()
    assert (code, report.output, report.output_object.url, report.output_object.size) == (0, None, ADDRESS, 2 * MIB), log
    content = server.objects(BUCKET)["x/n/demo/u/attempt-3/output"]
    assert (content[:8], content[-8:], len(content)) == (b"one\none\n", b"two\ntwo\n", 2 * MIB)
    assert f"output: {2 * MIB} bytes to {ADDRESS}" in log
    assert not re.search(f"{SECRET_KEY}|{ACCESS_KEY}", log)


def test_neither_a_command_nor_a_step_of_a_plugin_sees_the_stores_credential(pod: Any, server: S3Server) -> None:
    start(pod, server.endpoint, command("env"), {"plugin": {"kind": "environment", "with": {}}})
    code, log = pod.end()
    said = pod.report().output
    assert (code, "PATH=" in said, "OMP=" in said) == (0, True, True), log
    assert not re.search(f"AGENTTASK_STORE_|{SECRET_KEY}|{ACCESS_KEY}", said)


def test_a_stopped_runner_has_its_grace_to_hand_over_and_says_what_was_left_undone(pod: Any) -> None:
    start(pod, NOBODY_LISTENS, *(command(f"yes {word} | head -c {MIB}") for word in ("one", "two")), AGENTTASK_GRACE_SECONDS="2")
    said = _follow(pod)
    pod.until(lambda: "output: " in said())
    pod.signal(signal.SIGTERM)
    code, log = pod.end()
    report = pod.report()
    assert (code, report.done, report.error.reason) == (143, True, Reason.LOST), log
    assert report.error.message == "the runner was stopped (SIGTERM); its output was not handed over in time"
    assert [step.code for step in report.steps] == ["S", "S"]


def _follow(pod: Any) -> Any:
    """What the runner has said so far; its pipe is read without waiting."""
    pipe = pod.process.stdout
    os.set_blocking(pipe.fileno(), False)
    said: list[bytes] = []

    def read() -> str:
        while True:
            try:
                piece = os.read(pipe.fileno(), 65536)
            except BlockingIOError:
                piece = b""
            if not piece:
                return b"".join(said).decode()
            said.append(piece)

    return read
