"""helm on the chart of this checkout: rendering needs the program only, installing needs the cluster."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.fakes.kubectl import find

CHART = Path(__file__).parents[3] / "charts" / "agenttask-operator"
Helm = Callable[..., subprocess.CompletedProcess[str]]
Render = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def chart() -> Path:
    """Where the chart is."""
    return CHART


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Runs helm and answers exit status, output and errors."""
    program = find("helm")
    if program is None:
        pytest.skip("helm is neither on PATH nor in tests/cluster/bin: run `make cluster-up`")

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *args], capture_output=True, text=True, check=False, timeout=300)

    return run


@pytest.fixture(scope="session")
def render(helm: Helm) -> Render:
    """The objects that the chart makes with some `--set` and `-f` arguments."""

    def objects(*args: str, release: str = "r", namespace: str = "ns") -> list[dict[str, Any]]:
        done = helm("template", release, str(CHART), "--namespace", namespace, *args)
        assert done.returncode == 0, done.stderr
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    return objects
