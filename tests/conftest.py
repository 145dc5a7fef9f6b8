"""What all tests share: the cluster and its images where a test needs them, no network where it must not, and durations.

Tests find the cluster through the environment that `make test` sets (scripts/cluster env, scripts/images.py --env). Run by
hand, `eval "$(scripts/cluster env)"` does the same. Without a cluster such a test is skipped with the reason, unless
AGENTTASK_REQUIRE_CLUSTER or CI is set: then a skip for want of anything but a GPU is a failure, so that nothing passes unseen.
"""

import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.fakes.kubectl import not_ready

settings.register_profile("shared-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # no test is a stopwatch
settings.load_profile("shared-machine")

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / "tests" / "cluster" / "bin"
IMAGES = ("controller", "runner", "runner-torch", "runner-demo")
ON_CLUSTER = ("tests/integration/", "tests/faults/", "tests/e2e/")
WITHOUT_NETWORK = ("tests/unit/",)


def cluster_required() -> bool:
    """Nobody looks at what was skipped."""
    return bool(os.environ.get("CI") or os.environ.get("AGENTTASK_REQUIRE_CLUSTER"))


# ---- the cluster


@pytest.fixture(scope="session")
def cluster_environment() -> dict[str, str]:
    """The environment for kubectl and helm: KUBECONFIG, and a PATH that has both."""
    environment = dict(os.environ)
    if shutil.which("kubectl") is None or shutil.which("helm") is None:
        environment["PATH"] = f"{environment.get('PATH', '')}:{TOOLS}"
    if "KUBECONFIG" not in environment:
        pytest.skip('no cluster: KUBECONFIG is not set; `make cluster-up`, then eval "$(scripts/cluster env)"')
    kubectl = shutil.which("kubectl", path=environment["PATH"])
    if kubectl is None:
        pytest.skip("no cluster: kubectl is neither in PATH nor in tests/cluster/bin; `make cluster-up` builds it")
    problem = not_ready(kubectl, environment)
    if problem is not None:
        pytest.skip(f"no cluster: {environment['KUBECONFIG']} names one that does not answer: {problem}")
    return environment


@pytest.fixture(scope="session")
def images(cluster_environment: dict[str, str]) -> Mapping[str, str]:
    """Full image names by `controller`, `runner`, `runner-torch`, `runner-demo`; they are built and in the cluster."""
    names = {name: cluster_environment.get(f"IMAGE_{name.upper().replace('-', '_')}", "") for name in IMAGES}
    if not all(names.values()):
        made = subprocess.run([sys.executable, "-m", "scripts.images", "--env"], cwd=ROOT, capture_output=True, text=True, check=True)
        given = dict(line.split("=", 1) for line in made.stdout.splitlines())
        names = {name: given[f"IMAGE_{name.upper().replace('-', '_')}"] for name in IMAGES}
        there = subprocess.run(
            [ROOT / "tests/cluster/localkube", "image", "list"], capture_output=True, text=True, check=False
        ).stdout.split()
        absent = [image for image in names.values() if image not in there]
        if absent and cluster_environment.get("CLUSTER", "local") == "local":
            pytest.skip(f"images of this checkout are missing: {', '.join(absent)}; `make images` builds them")
    return names


@pytest.fixture
def namespace(cluster_environment: dict[str, str]) -> Iterator[str]:
    """The name of a fresh namespace; deleted afterwards, without waiting."""
    name = f"test-{secrets.token_hex(4)}"
    kubectl = ["kubectl", "--request-timeout=30s"]
    subprocess.run([*kubectl, "create", "namespace", name], env=cluster_environment, capture_output=True, check=True)
    yield name
    subprocess.run([*kubectl, "delete", "namespace", name, "--wait=false"], env=cluster_environment, capture_output=True, check=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Where the cluster is required, a skipped test of the cluster has failed; a GPU is required nowhere."""
    report: Any = yield
    allowed = hasattr(report, "wasxfail") or item.get_closest_marker("gpu") is not None
    if report.skipped and not allowed and cluster_required() and item.nodeid.startswith(ON_CLUSTER):
        report.outcome = "failed"
        report.longrepr = (
            f"skipped where the cluster is required: {report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr}"
        )
    return report


# ---- no network in unit tests


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A unit test talks to this machine at most: what needs more belongs into another folder."""
    if not item.nodeid.startswith(WITHOUT_NETWORK):
        return (yield)
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if self.family in (socket.AF_INET, socket.AF_INET6) and not (host.startswith("127.") or host in ("::1", "localhost")):
            raise AssertionError(f"a unit test connects to {address!r}; only loopback is allowed in tests/unit")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        return (yield)


# ---- durations


class Durations:
    """Seconds a folder of tests/, and what `make test` did before."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._tests: dict[str, set[str]] = defaultdict(set)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Set-up and tear-down count for the folder too."""
        folder = "/".join(report.nodeid.split("/")[:2])
        self._seconds[folder] += report.duration
        self._tests[folder].add(report.nodeid)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """A table before pytest's own last line."""
        terminalreporter.section("durations")
        before = Path(os.environ.get("AGENTTASK_DURATIONS", os.devnull))
        for line in before.read_text().splitlines():
            label, seconds = line.rsplit(" ", 1)
            terminalreporter.write_line(f"{label:<24} {float(seconds):7.1f} s")
        for folder, spent in self._seconds.items():
            terminalreporter.write_line(f"{folder:<24} {spent:7.1f} s   {len(self._tests[folder])} tests")


def pytest_configure(config: pytest.Config) -> None:
    """Add the table of durations."""
    config.pluginmanager.register(Durations(), "durations")
