"""Where images are built and kept, and how they reach the cluster: localkube's own store, or docker, podman, buildah."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

LOCALKUBE = Path(__file__).resolve().parents[1] / "tests" / "cluster" / "localkube"
TOOLS = ("docker", "podman", "buildah")
UNITS = {"B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3}


class Failed(Exception):
    """Something that the person at the terminal has to know; shown without a traceback."""


def output(*command: str) -> str:
    """Standard output of a command that has to succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(command)} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Store(Protocol):
    """Builds images for one cluster."""

    prefix: str
    """What stands before `agenttask/` in the image names, with its slash."""

    def has(self, image: str) -> bool:
        """It is built."""
        ...

    def build_command(self, image: str, context: Path, options: Sequence[str]) -> list[str]:
        """Builds `image` from a folder with a Dockerfile."""
        ...

    def hand_over(self, image: str) -> None:
        """Make a built image one that the cluster can run; little is done where it is one already."""
        ...

    def sizes(self, image: str) -> tuple[int, int]:
        """Bytes of the image, and of what it adds to its base image."""
        ...


class LocalStore:
    """The one-node cluster of tests/cluster: podman with a store of its own; only layers that the cluster lacks are copied."""

    prefix = "localkube.local/"

    def has(self, image: str) -> bool:
        """In the store, whatever the cluster has."""
        return image in self._digests()[0]

    def _digests(self) -> tuple[dict[str, str], dict[str, str]]:
        """Digests by image: in the store, and in the cluster."""
        here, _, there = output(str(LOCALKUBE), "image", "list").partition("in the cluster:")
        lines = [[line.split() for line in part.splitlines() if line.strip().startswith("sha256:")] for part in (here, there)]
        return {image: digest for digest, image in lines[0]}, {image: digest for digest, image in lines[1]}

    def build_command(self, image: str, context: Path, options: Sequence[str]) -> list[str]:
        """It passes the base image, and the machine's own pip settings without a trace in the image; it loads too."""
        return [str(LOCALKUBE), "image", "build", image, str(context), *options]

    def hand_over(self, image: str) -> None:
        """`image build` loads; not so where the cluster was down then, or has forgotten since."""
        here, there = self._digests()
        if here[image] != there.get(image):
            output(str(LOCALKUBE), "image", "load", image)

    def sizes(self, image: str) -> tuple[int, int]:
        """Of the unpacked layers."""
        total, own = output(str(LOCALKUBE), "image", "size", image).split()
        return int(total), int(own)

    def forget(self, images: Sequence[str]) -> None:
        """Remove those of the images that are there."""
        listed = output(str(LOCALKUBE), "image", "list").split()
        found = [image for image in images if image in listed]
        if found:
            output(str(LOCALKUBE), "image", "rm", *found)


class ToolStore:
    """docker, podman or buildah, for kind and for clusters that pull from a registry."""

    def __init__(self, tool: str, base: str, *, cluster: str, registry: str) -> None:
        self._tool, self._base, self._cluster, self._registry = tool, base, cluster, registry
        self.prefix = f"{registry.rstrip('/')}/" if registry else ""

    def has(self, image: str) -> bool:
        """In the tool's store."""
        return subprocess.run([self._tool, "inspect", "--type", "image", image], capture_output=True, check=False).returncode == 0

    def build_command(self, image: str, context: Path, options: Sequence[str]) -> list[str]:
        """The tool's own build, with the package index where one is given."""
        index = os.environ.get("PIP_INDEX_URL", "")
        arguments = ["--build-arg", f"BASE={self._base}", *(["--build-arg", f"PIP_INDEX_URL={index}"] if index else [])]
        return [self._tool, "build", "--tag", image, *arguments, *options, str(context)]

    def hand_over(self, image: str) -> None:
        """Push it, load it into kind, or say what is left to do."""
        if self._registry:
            output(self._tool, "push", image)
        elif self._cluster == "kind":
            with tempfile.TemporaryDirectory() as folder:
                archive = f"{folder}/image.tar"
                if self._tool == "buildah":
                    output("buildah", "push", image, f"docker-archive:{archive}:{image}")
                else:
                    output(self._tool, "save", "-o", archive, image)
                output("kind", "load", "image-archive", archive, "--name", "agenttask")
        else:
            print(f"    {image} is in the store of {self._tool} only; with REGISTRY=HOST/PATH it is pushed", file=sys.stderr)

    def sizes(self, image: str) -> tuple[int, int]:
        """As the tool counts them."""
        total = self._size(image)
        return total, max(total - self._size(self._base), 0)

    def _size(self, image: str) -> int:
        if self._tool != "buildah":
            return int(output(self._tool, "image", "inspect", "--format", "{{.Size}}", image))
        number, unit = output("buildah", "images", "--format", "{{.Size}}", image).split()[:2]
        return int(float(number) * UNITS[unit.upper()])


def find_tool(wanted: str) -> str:
    """The first of docker, podman and buildah that works here, or the one asked for.

    Raises:
        Failed: there is none; the message says what was tried.
    """
    for tool in (wanted,) if wanted else TOOLS:
        if shutil.which(tool) and subprocess.run([tool, "info"], capture_output=True, check=False).returncode == 0:
            return tool
    tried = repr(wanted) if wanted else ", ".join(TOOLS)
    raise Failed(
        f"no tool to build images works here (tried {tried}); start docker, or install podman, or use CLUSTER=local without REGISTRY"
    )


def choose(environment: Mapping[str, str]) -> Store:
    """The store that suits CLUSTER; images for a REGISTRY are nothing that the local cluster's own store could push."""
    cluster = environment.get("CLUSTER") or "local"
    if cluster == "local" and not environment.get("REGISTRY"):
        return LocalStore()
    base = environment.get("BASE") or "python:3.13-slim-trixie"
    return ToolStore(find_tool(environment.get("IMAGE_TOOL", "")), base, cluster=cluster, registry=environment.get("REGISTRY", ""))
