"""The names of images follow their content."""

import re
import subprocess
from pathlib import Path

import pytest
from scripts.images import SOURCES, content_tag, environment_lines, forget_old, image_names, sources
from scripts.stores import Failed, LocalStore, ToolStore, choose, find_tool

ROOT = Path(__file__).parents[3]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text("FROM base")
    (tmp_path / "operator" / "agenttask").mkdir(parents=True)
    (tmp_path / "operator" / "agenttask" / "a.py").write_text("a = 1")
    return tmp_path


def test_the_tag_changes_with_what_goes_into_the_images(tree: Path) -> None:
    before = content_tag(tree)
    (tree / "operator" / "agenttask" / "a.py").write_text("a = 2")
    assert content_tag(tree) != before


def test_a_moved_file_changes_the_tag(tree: Path) -> None:
    before = content_tag(tree)
    (tree / "operator" / "agenttask" / "a.py").rename(tree / "operator" / "agenttask" / "b.py")
    assert content_tag(tree) != before


@pytest.mark.parametrize(
    "path", ["operator/agenttask/__pycache__/a.cpython-313.pyc", "README.md", "tests/test_a.py"], ids=["bytecode", "readme", "test"]
)
def test_what_stays_out_of_the_images_leaves_the_tag_alone(tree: Path, path: str) -> None:
    before = content_tag(tree)
    (tree / path).parent.mkdir(parents=True, exist_ok=True)
    (tree / path).write_text("x")
    assert content_tag(tree) == before


def test_the_sources_of_this_checkout_are_there() -> None:
    found = {path.relative_to(ROOT).parts[0] for path in sources(ROOT)}
    assert found >= {Path(name).parts[0] for name in SOURCES}


def test_names_and_environment_lines_agree() -> None:
    lines = environment_lines(image_names("host/", "abc"))
    assert "IMAGE_RUNNER_TORCH=host/agenttask/runner-torch:abc" in lines
    assert len(lines) == 4


def test_an_unknown_tool_is_named_in_the_error() -> None:
    with pytest.raises(Failed, match="'no-such-tool'"):
        find_tool("no-such-tool")


def test_a_local_cluster_needs_no_tool() -> None:
    assert isinstance(choose({}), LocalStore)


def test_a_registry_asks_for_a_tool_even_for_the_local_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.stores.find_tool", lambda wanted: wanted or "podman")
    store = choose({"CLUSTER": "local", "REGISTRY": "host/path"})
    assert isinstance(store, ToolStore)
    assert store.prefix == "host/path/"


def test_a_registry_stands_before_the_name_once() -> None:
    assert ToolStore("docker", "base", cluster="current", registry="host/path/").prefix == "host/path/"


def test_the_index_reaches_the_build_as_an_argument(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    command = ToolStore("podman", "base:1", cluster="kind", registry="").build_command("a:1", tmp_path, ["--target", "runner"])
    assert command[:4] == ["podman", "build", "--tag", "a:1"]
    assert "PIP_INDEX_URL=https://index.example/simple" in command
    assert "BASE=base:1" in command


class Forgetful(LocalStore):
    def __init__(self) -> None:
        self.forgotten: list[str] = []

    def forget(self, images: object) -> None:
        self.forgotten += images  # type: ignore[arg-type]  # a list of names


def test_images_of_tags_not_asked_for_lately_are_forgotten(tmp_path: Path) -> None:
    store = Forgetful()
    for tag in ("one", "two", "three", "one", "four"):
        forget_old(store, tag, tmp_path)
    assert {image.rpartition(":")[2] for image in store.forgotten} == {"two"}
    assert (tmp_path / "image-tags").read_text().split() == ["four", "one", "three"]


LISTED = """here (images):
  sha256:aa localkube.local/agenttask/runner:1
  sha256:bb localkube.local/agenttask/controller:1
in the cluster:
  sha256:aa localkube.local/agenttask/runner:1
"""


@pytest.mark.parametrize(("name", "loads"), [("runner", 0), ("controller", 1)], ids=["in-the-cluster", "only-in-the-store"])
def test_only_an_image_that_the_cluster_lacks_is_loaded(monkeypatch: pytest.MonkeyPatch, name: str, loads: int) -> None:
    asked: list[tuple[str, ...]] = []

    def listed(*command: str) -> str:
        asked.append(command[1:])
        return LISTED

    monkeypatch.setattr("scripts.stores.output", listed)
    image = f"localkube.local/agenttask/{name}:1"
    LocalStore().hand_over(image)
    assert asked.count(("image", "load", image)) == loads


def test_an_image_of_another_tag_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.stores.output", lambda *_: LISTED)
    assert LocalStore().has("localkube.local/agenttask/runner:1")
    assert not LocalStore().has("localkube.local/agenttask/runner:2")


@pytest.mark.parametrize(
    ("registry", "cluster", "expected"),
    [("host", "current", ["push"]), ("", "kind", ["save", "load"]), ("", "current", [])],
    ids=["registry", "kind", "neither"],
)
def test_an_image_is_pushed_or_loaded_or_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], registry: str, cluster: str, expected: list[str]
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("scripts.stores.output", lambda *command: asked.append(command[1]) or "")
    ToolStore("podman", "base", cluster=cluster, registry=registry).hand_over("a:1")
    assert asked == expected
    assert ("REGISTRY" in capsys.readouterr().err) == (expected == [])


def test_sizes_of_buildah_are_read_from_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.stores.output", lambda *command: "278 MB\n" if command[-1] == "a:1" else "194 MB\n")
    assert ToolStore("buildah", "base:1", cluster="current", registry="").sizes("a:1") == (278_000_000, 84_000_000)


def test_the_package_index_is_found_where_the_active_python_has_no_pip(tmp_path: Path) -> None:
    """A virtual environment without pip in front of PATH; `set -euo pipefail` then ended the build without a word."""
    for name in ("python3", "pip3"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    text = (ROOT / "tests" / "cluster" / "image.sh").read_text()
    function = re.search(r"^pip_settings\(\) \{\n.*?^\}\n", text, re.DOTALL | re.MULTILINE)
    assert function is not None
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PIP_INDEX_URL": "https://index.example/simple"}
    script = f"set -euo pipefail\n{function[0]}pip_settings | sed -n 's/index-url/&/p'"
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert ":env:.index-url='https://index.example/simple'" in done.stdout
