"""`agenttask image check --with kubectl` on real images: one that keeps the contract, and two that have no working runner."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.e2e.cluster import Namespace

pytestmark = pytest.mark.cluster
PAUSE = "localkube.local/pause:1" if os.environ.get("CLUSTER", "local") == "local" else "registry.k8s.io/pause:3.10"
"""The image of which every pod's sandbox is made: one static program."""
Check = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def check(release: Namespace, tmp_path: Path) -> Check:
    """The command as a user types it, with a context whose namespace is the test's."""
    kubeconfig = tmp_path / "kubeconfig"
    shutil.copy(release.environment["KUBECONFIG"], kubeconfig)
    environment = {**os.environ, **release.environment, "KUBECONFIG": str(kubeconfig)}
    use = ["kubectl", "config", "set-context", "--current", f"--namespace={release.name}"]
    subprocess.run(use, env=environment, check=True, capture_output=True)

    def run(image: str) -> "subprocess.CompletedProcess[str]":
        command = [Path(sys.executable).parent / "agenttask", "image", "check", image, "--with", "kubectl", "--timeout", "180"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)

    return run


def test_our_runner_image_keeps_the_contract(check: Check, images: Mapping[str, str], release: Namespace) -> None:
    done = check(images["runner"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert {line.split(":")[0] for line in done.stdout.splitlines()} >= {"ok   user", "ok   /workspace", "ok   a task of three steps"}
    assert "FAIL" not in done.stdout
    made = re.search(r"as pod (agenttask-image-check-\w+)", done.stderr)  # the pods of other checks may be about to go
    assert made is not None
    assert made[1] not in {pod["metadata"]["name"] for pod in release.pods()}


def test_an_image_without_the_runners_packages_says_which(check: Check, images: Mapping[str, str]) -> None:
    done = check(images["controller"])
    assert done.returncode != 0
    assert "No module named" in done.stderr


def test_an_image_without_a_runner_is_told_as_such(check: Check) -> None:
    done = check(PAUSE)
    assert done.returncode != 0
    assert "agenttask-runner" in done.stderr
