"""All that one benchmark gave, as a file: written after each run, so that what was measured survives an interruption."""

import asyncio
import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from bench.control import procfs
from bench.control.depth import Depth
from bench.control.race import Run
from bench.control.schema_cost import Cost
from bench.control.stage import ROOT, Storage, programs
from msgspec import Struct


class Machine(Struct, frozen=True, kw_only=True):
    """Where and with what it was measured."""

    when: str
    commit: str
    processor: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    kubernetes: str
    packages: dict[str, str]
    storage: Storage


class Results(Struct, kw_only=True):
    """Everything measured."""

    machine: Machine
    settings: list[str]
    """What ours was started with beyond its defaults."""
    runs: list[Run] = []
    depths: list[Depth] = []
    costs: list[Cost] = []

    def write(self, file: Path) -> None:
        """As JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))

    @classmethod
    def read(cls, file: Path) -> "Results":
        """What `write` wrote."""
        return msgspec.json.decode(file.read_bytes(), type=cls)


async def machine(storage: Storage) -> Machine:
    """This one."""
    version, commit = await asyncio.gather(
        asyncio.to_thread(_said, f"{programs()}/kube-apiserver", "--version"),
        asyncio.to_thread(_said, "git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"),
    )
    return Machine(
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=commit,
        processor=procfs.processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=procfs.memory_gib(),
        kernel=platform.release(),
        python=platform.python_version(),
        kubernetes=version.removeprefix("Kubernetes "),
        packages={name: importlib.metadata.version(name) for name in ("aiohttp", "kopf", "msgspec", "uvloop")},
        storage=storage,
    )


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
