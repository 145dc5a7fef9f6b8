"""Outputs in an object store on a real cluster: pods that write to a real S3 server, and what a user sees when they cannot."""

import base64
import hashlib
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Namespace
from tests.e2e.conftest import install, uninstall, until_kept
from tests.s3.install import versitygw
from tests.s3.server import ACCESS_KEY, REGION, SECRET_KEY, S3Server

pytestmark = pytest.mark.cluster
BUCKET, PREFIX, SECRET = "outputs", "agents", "store-keys"
STORE = f"s3://{BUCKET}/{PREFIX}"
MIB = 1 << 20
LARGE = "{{ steps.one.text }}{{ steps.two.text }}"
PAGE = Path(__file__).parents[2] / "docs" / "outputs.md"


def lines(word: str, size: int) -> str:
    """What `yes WORD | head -c SIZE` prints."""
    line = f"{word}\n"
    return (line * (size // len(line) + 1))[:size]


def step(name: str, command: str) -> dict[str, Any]:
    return {"name": name, "exec": {"command": ["sh", "-c", command]}}


def task(name: str, *steps: dict[str, Any], output: str) -> dict[str, Any]:
    spec = {"steps": list(steps), "output": output}
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": name}, "spec": spec}


def two_mib(name: str) -> dict[str, Any]:
    return task(name, *(step(each, f"yes {each} | head -c {MIB}") for each in ("one", "two")), output=LARGE)


def keys(*, secret_key: str = SECRET_KEY) -> dict[str, Any]:
    data = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": secret_key}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "stringData": data}


def until_logged(namespace: Namespace, pod: str, line: str) -> None:
    end = time.monotonic() + 120
    while line not in (log := namespace.kubectl("logs", pod, check=False)):
        assert time.monotonic() < end, log
        time.sleep(0.5)


@pytest.fixture(scope="module")
def store(node_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The server on the node's address, where pods reach it."""
    with S3Server(versitygw(print), tmp_path_factory.mktemp("s3"), host=node_address) as server:
        server.bucket(BUCKET)
        yield server


@pytest.fixture(scope="module")
def storing(store: S3Server, cluster_environment: dict[str, str], images: Mapping[str, str]) -> Iterator[Namespace]:
    """An installation that has this store, a gateway too, and lets tasks name any Secret but the store's."""
    namespace = Namespace(name=f"outputs-{secrets.token_hex(3)}", environment=cluster_environment)
    options = {"endpoint": store.endpoint, "region": REGION, "allow_http": True}
    try:
        structures = {"outputStore": {"url": STORE, "secretName": SECRET, "options": options}, "secretGlobs": ["*"]}
        install(namespace, images, structures=structures)
        namespace.apply(keys())
        yield namespace
    finally:
        uninstall(namespace)


@pytest.fixture(scope="module")
def without_gateway(store: S3Server, cluster_environment: dict[str, str], images: Mapping[str, str]) -> Iterator[Namespace]:
    """An installation with the store alone: the gateway is switched off by its gate."""
    namespace = Namespace(name=f"outputs-{secrets.token_hex(3)}", environment=cluster_environment)
    options = {"endpoint": store.endpoint, "region": REGION, "allow_http": True}
    try:
        structures = {"outputStore": {"url": STORE, "secretName": SECRET, "options": options}, "featureGates.Gateway": False}
        install(namespace, images, structures=structures)
        namespace.apply(keys())
        yield namespace
    finally:
        uninstall(namespace)


def test_where_the_gateway_is_switched_off_everything_that_the_report_cannot_hold_goes_to_the_store(
    without_gateway: Namespace, store: S3Server
) -> None:
    without_gateway.apply(task("five", step("one", "yes one | head -c 5000"), output="{{ steps.one.text }}"))
    status = without_gateway.ended("five")
    assert (status["phase"], status["outputRef"]["kind"], status["outputRef"]["size"]) == ("Succeeded", "ObjectStore", 5000), status
    assert store.objects(BUCKET)[f"{PREFIX}/{status['outputRef']['key']}"].decode() == lines("one", 5000)


def test_a_large_output_lies_in_the_store_and_is_read_as_the_page_says(storing: Namespace, store: S3Server) -> None:
    storing.apply(keys(), two_mib("large"))
    status = storing.ended("large")
    assert (status["phase"], "output" in status) == ("Succeeded", False), status
    expected = (lines("one", MIB) + lines("two", MIB)).encode()
    ref = status["outputRef"]
    uid = storing.tasks()["large"]["metadata"]["uid"]
    assert ref == {
        "kind": "ObjectStore",
        "name": STORE,
        "key": f"{storing.name}/large/{uid}/attempt-1/output",
        "size": 2 * MIB,
        "sha256": hashlib.sha256(expected).hexdigest(),
    }
    assert store.objects(BUCKET)[f"{PREFIX}/{ref['key']}"] == expected

    found = re.search(r"python3 -c '(.*?)' \"\$ref\"", PAGE.read_text(), re.DOTALL)
    assert found is not None
    reader = "\n".join(line.removeprefix("    ") for line in found[1].splitlines())
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT": store.endpoint,
        "AWS_ALLOW_HTTP": "true",
    }
    read = subprocess.run([sys.executable, "-c", reader, f"{ref['name']}/{ref['key']}"], env=environment, capture_output=True, check=False)
    assert read.stdout == expected, read.stderr.decode()


def test_what_the_gateway_takes_still_goes_there(storing: Namespace, store: S3Server) -> None:
    storing.apply(keys(), task("medium", step("one", "yes one | head -c 500000"), output="{{ steps.one.text }}"))
    status = storing.ended("medium")
    assert (status["phase"], status["outputRef"]["kind"]) == ("Succeeded", "AgentTaskRecord"), status
    assert not [key for key in store.objects(BUCKET) if "/medium/" in key]


def test_commands_of_a_task_see_nothing_of_the_stores_secret(storing: Namespace) -> None:
    others = "for each in /proc/[0-9]*; do tr '\\0' '\\n' < $each/environ; done 2>&1 | grep -ci secret_access"
    look = f"env | grep -ci -e store -e aws; {others}; true"
    storing.apply(keys(), task("curious", step("one", look), output="{{ steps.one.text }}"))
    status = storing.ended("curious")
    assert (status["phase"], status["output"].split()) == ("Succeeded", ["0", "0"]), status
    named = {"command": ["env"], "env": [{"name": "KEY", "secretKeyRef": {"name": SECRET, "key": "aws_secret_access_key"}}]}
    storing.apply(task("greedy", {"name": "one", "exec": named}, output="{{ steps.one.text }}"))
    refused = storing.ended("greedy")
    assert (refused["reason"], f"tasks may not name the Secret '{SECRET}'" in refused["message"]) == ("InvalidTask", True), refused


def test_a_wrong_key_fails_the_task_with_what_the_store_said_and_the_remedy(storing: Namespace, store: S3Server) -> None:
    storing.apply(keys(secret_key="wrong-wrong-wrong-wrong"), two_mib("wrong"))
    try:
        status = storing.ended("wrong")
    finally:
        storing.apply(keys())
    assert (status["phase"], status["reason"], "outputRef" in status) == ("Failed", "OutputRejected", False), status
    said = status["message"]
    assert said.startswith(f"the output ({2 * MIB} bytes) could not be left at {STORE}/{storing.name}/wrong/")
    assert "403 Forbidden: SignatureDoesNotMatch: " in said
    assert said.endswith(f"; check the Secret '{SECRET}', and that it may write there")
    assert not re.search(f"wrong-wrong|{ACCESS_KEY}", said)
    assert not [key for key in store.objects(BUCKET) if "/wrong/" in key]


def test_a_task_waits_for_a_secret_that_is_missing_and_goes_on_when_it_is_there(storing: Namespace, store: S3Server) -> None:
    storing.kubectl("delete", "secret", SECRET, "--ignore-not-found")
    storing.apply(two_mib("early"))
    status = storing.until("early", lambda found: found.get("reason") == "MissingInput", seconds=90)
    assert f'secret "{SECRET}" not found' in status["message"], status
    storing.apply(keys())
    status = storing.ended("early")
    assert status["phase"] == "Succeeded", status
    assert len(store.objects(BUCKET)[f"{PREFIX}/{status['outputRef']['key']}"]) == 2 * MIB


def test_a_store_that_is_down_costs_an_attempt_and_the_next_one_hands_over_the_firsts_work(storing: Namespace, store: S3Server) -> None:
    """The Secret's own endpoint wins: a port where nobody listens, then the right one. Each step says which attempt ran it."""
    nowhere = keys()
    nowhere["stringData"]["aws_endpoint"] = "http://127.0.0.1:9"
    part = 300_000  # both steps fit a checkpoint, and the output, which has each of them twice, no record
    steps = [step(each, f"yes '{each} of attempt {{{{ attempt }}}}' | head -c {part}") for each in ("one", "two")]
    storing.apply(nowhere, task("stopped", *steps, output=LARGE + LARGE))
    try:
        pod = storing.until("stopped", lambda found: found.get("podName"), seconds=90)["podName"]
        until_logged(storing, pod, f"output: {4 * part} bytes to {STORE}/")
        until_kept(storing, ["stopped"], ["one", "two"])
        storing.kubectl("delete", "secret", SECRET)
        storing.apply(keys())
        storing.kubectl("delete", "pod", pod, "--grace-period=5", "--wait=false")
        status = storing.ended("stopped")
    finally:
        storing.kubectl("delete", "secret", SECRET)
        storing.apply(keys())
    assert (status["phase"], status["attempt"], status["infrastructureRestarts"]) == ("Succeeded", 2, 1), status
    assert status["outputRef"]["key"].endswith("/attempt-2/output")
    assert [(each["name"], each["phase"]) for each in status["steps"]] == [("one", "Succeeded"), ("two", "Succeeded")]
    made_by_the_first = "".join(lines(f"{each} of attempt 1", part) for each in ("one", "two", "one", "two"))
    assert store.objects(BUCKET)[f"{PREFIX}/{status['outputRef']['key']}"].decode() == made_by_the_first
    assert "steps taken over: 2" in storing.kubectl("logs", status["podName"])
    data = storing.kubectl("get", "secret", SECRET, "-o", "jsonpath={.data.aws_secret_access_key}")
    assert base64.b64decode(data).decode() == SECRET_KEY
