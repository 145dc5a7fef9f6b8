"""Kubernetes' own test driver for dynamic resource allocation, beside the local cluster's kubelet.

It offers devices that are names, and prepares a claim by a CDI file that sets variables in the claim's containers: each
parameter of the claim as `user_NAME`. A parameter that is no text it cannot read, and does not prepare such a claim.
"""

import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.e2e.cluster import Namespace

PROGRAM = Path(__file__).parents[1] / "cluster" / "bin" / "dra-test-driver"
_REGISTERED = "plugin_registered:true"
_LOGS_CALLS = "-v=6"


class Driver(msgspec.Struct, kw_only=True):
    """A driver of this name, which is its DeviceClass's too."""

    name: str
    namespace: Namespace
    node: str
    folder: Path
    """The cluster's."""
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self, devices: int) -> None:
        """Begin, and wait until the kubelet knows it and its devices are published."""
        kubelet = self.folder / "kubelet"
        (kubelet / "plugins" / self.name).mkdir(parents=True, exist_ok=True)
        places = {"plugin-registration-path": kubelet / "plugins_registry", "datadir": kubelet / "plugins", "cdi-dir": self._cdi}
        command = [str(PROGRAM), _LOGS_CALLS, f"--drivername={self.name}", "kubelet-plugin", f"--node-name={self.node}"]
        command += [f"--{option}={place}" for option, place in places.items()] + [f"--num-devices={devices}"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=self.namespace.environment, stdout=log, stderr=subprocess.STDOUT)
        _wait(lambda: _REGISTERED in self.log.read_text() and self.slices(), self.log)

    def end(self, how: signal.Signals) -> None:
        """End its process by a signal; after SIGKILL its sockets and devices stay for a while."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(timeout=20)
            self.process = None

    def clean(self) -> None:
        """Take away what it leaves."""
        shutil.rmtree(self.folder / "kubelet" / "plugins" / self.name, ignore_errors=True)
        (self.folder / "kubelet" / "plugins_registry" / f"{self.name}-reg.sock").unlink(missing_ok=True)
        for each in self.prepared():
            each.unlink(missing_ok=True)
        self.namespace.kubectl("delete", "resourceslices", f"--field-selector=spec.driver={self.name}")
        self.namespace.kubectl("delete", "deviceclass", self.name, "--ignore-not-found")

    def slices(self) -> str:
        """The names of its ResourceSlices."""
        return self.namespace.kubectl("get", "resourceslices", f"--field-selector=spec.driver={self.name}", "-o", "name")

    def prepared(self) -> list[Path]:
        """The CDI files of claims that are prepared now."""
        return list(self._cdi.glob(f"{self.name}-*.json"))

    @property
    def _cdi(self) -> Path:
        return self.folder / "run" / "cdi"

    def device_class(self) -> dict[str, Any]:
        """All of its devices."""
        selectors = [{"cel": {"expression": f'device.driver == "{self.name}"'}}]
        return {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "DeviceClass",
            "metadata": {"name": self.name},
            "spec": {"selectors": selectors},
        }

    def template(self, name: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """A ResourceClaimTemplate for one device."""
        devices = {
            "requests": [{"name": "gpu", "exactly": {"deviceClassName": self.name}}],
            "config": [{"opaque": {"driver": self.name, "parameters": parameters}}],
        }
        return {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaimTemplate",
            "metadata": {"name": name},
            "spec": {"spec": {"devices": devices}},
        }


@contextmanager
def dra_driver(namespace: Namespace, log: Path, *, devices: int) -> Iterator[Driver]:
    """A driver with so many devices, and its DeviceClass."""
    folder = Path(namespace.environment["KUBECONFIG"]).parents[1]
    if not (folder / "kubelet" / "plugins_registry").is_dir() or not PROGRAM.exists():
        pytest.skip("the driver runs beside the kubelet, and this is not the local cluster of tests/cluster")
    name = f"dra-{secrets.token_hex(3)}.example.com"
    node = namespace.kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
    driver = Driver(name=name, namespace=namespace, node=node, folder=folder, log=log)
    try:
        driver.start(devices)
        namespace.apply(driver.device_class())
        yield driver
    finally:
        driver.end(signal.SIGTERM)
        driver.clean()


def _wait(holds: Callable[[], object], log: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, log.read_text()[-3000:]
        time.sleep(0.2)
