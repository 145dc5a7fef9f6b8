"""Files keep to their places whatever a path says, and a reader sees whole files only."""

import os
import stat
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.runner_plugins import Threads

from agenttask.api.constants import MAX_STEP_TEXT_BYTES
from agenttask.api.errors import OutputTooLarge, StepFailed
from agenttask.runner.files import TaskFiles, write_atomically
from agenttask.runner.globs import matching
from agenttask.runner.places import places


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "workspace").mkdir()
    (tmp_path / "repo").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    return tmp_path


@pytest.fixture
def files(root: Path) -> TaskFiles:
    return TaskFiles(places(root / "workspace", {"repo": root / "repo"}), Threads())


def test_a_relative_path_starts_at_the_workspace(files: TaskFiles, root: Path) -> None:
    assert files.readable("a/../b.txt") == root / "workspace" / "b.txt"


def test_the_tasks_names_lead_to_this_machines_folders(files: TaskFiles, root: Path) -> None:
    assert files.readable("/inputs/repo/x") == root / "repo" / "x"
    assert files.readable(str(root / "repo" / "x")) == root / "repo" / "x"
    assert files.writable("/workspace/out/x") == root / "workspace" / "out" / "x"


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        pytest.param("../outside/secret", "'../outside/secret' is outside .* /workspace and /inputs/repo only", id="dots"),
        pytest.param("/inputs/repo/../../etc/passwd", "is outside", id="dots from an input"),
        pytest.param("/etc/passwd", "is outside", id="absolute"),
        pytest.param("/inputs/other/x", "is outside", id="an input of nobody"),
        pytest.param("/workspace2/x", "is outside", id="a name that begins alike"),
        pytest.param("/proc/self/environ", "is outside", id="proc"),
        pytest.param("", "a path is empty", id="empty"),
        pytest.param("a\0b", "NUL", id="NUL"),
        pytest.param("a" * 300, "too long a path: 300 bytes", id="long name"),
        pytest.param("a/" * 3000, "too long a path: 6000 bytes", id="long path"),
        pytest.param("link/secret", "leads out through a symlink", id="symlink to a folder"),
        pytest.param("file-link", "leads out through a symlink", id="symlink to a file"),
    ],
)
def test_a_path_that_leads_out_is_refused_with_the_places(files: TaskFiles, root: Path, path: str, problem: str) -> None:
    (root / "workspace" / "link").symlink_to(root / "outside")
    (root / "workspace" / "file-link").symlink_to(root / "outside" / "secret")
    with pytest.raises(StepFailed, match=problem):
        files.readable(path)
    with pytest.raises(StepFailed):
        files.writable(path)


def test_inputs_cannot_be_written(files: TaskFiles, root: Path) -> None:
    (root / "workspace" / "in").symlink_to(root / "repo")
    for path in ("/inputs/repo/x", "in/x", "/workspace", "."):
        with pytest.raises(StepFailed, match=r"/workspace|workspace itself"):
            files.writable(path)


def test_a_symlink_that_stays_inside_is_followed(files: TaskFiles, root: Path) -> None:
    (root / "workspace" / "in").symlink_to(root / "repo")
    assert files.readable("in/x") == root / "repo" / "x"


@given(path=st.text(alphabet=st.sampled_from("abl./\0*\n\udc80é"), max_size=40))
def test_no_path_leads_out(tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    base = tmp_path_factory.getbasetemp() / "any"
    for name in ("w", "r", "o"):
        (base / name).mkdir(parents=True, exist_ok=True)
    link = base / "w" / "l"
    if not link.is_symlink():
        link.symlink_to(base / "o")
    found = places(base / "w", {"a": base / "r"})
    for ask, allowed in ((found.readable, ("w", "r")), (found.writable, ("w",))):
        try:
            resolved = ask(path)
        except StepFailed:
            continue
        assert any(resolved.is_relative_to(base / name) for name in allowed)


def config_map(folder: Path, data: dict[str, str]) -> None:
    """A folder as the kubelet mounts a ConfigMap."""
    version = folder / "..2025_01_01"
    version.mkdir(parents=True)
    (folder / "..data").symlink_to(version.name)
    for name, text in data.items():
        (version / name).write_text(text)
        (folder / name).symlink_to(f"..data/{name}")


@pytest.mark.parametrize("pattern", ["/inputs/repo/*.md", "/inputs/repo/**/*.md", "/inputs/repo/**", "/inputs/repo/*"])
async def test_a_config_maps_keys_are_listed_once(files: TaskFiles, root: Path, pattern: str) -> None:
    config_map(root / "repo", {"b.md": "B", "a.md": "A"})
    found = await files.glob(pattern)
    assert found == [Path("/inputs/repo/a.md"), Path("/inputs/repo/b.md")]
    assert [await files.read_text(path) for path in found] == ["A", "B"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        pytest.param("*.md", ["top.md"], id="one folder"),
        pytest.param("**/*.md", ["a/deep/x.md", "a/y.md", "b/y.md", "top.md"], id="any folder"),
        pytest.param("**/**/*.md", ["a/deep/x.md", "a/y.md", "b/y.md", "top.md"], id="doubled"),
        pytest.param("*/y.md", ["a/y.md", "b/y.md"], id="a folder's name"),
        pytest.param("a/**", ["a/deep/x.md", "a/y.md"], id="everything below"),
        pytest.param("a/**/deep/*", ["a/deep/x.md"], id="folders between"),
        pytest.param("t*p.*", ["top.md"], id="two stars in a name"),
        pytest.param(".h*", [".hidden.md"], id="hidden when asked for"),
        pytest.param("a/*/../y.md", ["a/y.md"], id="folded dots"),
    ],
)
async def test_patterns_match_as_in_a_shell(files: TaskFiles, root: Path, pattern: str, expected: list[str]) -> None:
    for name in ("top.md", "a/y.md", "a/deep/x.md", "b/y.md", "b/z.txt", ".hidden.md", ".git/c.md"):
        path = root / "workspace" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (root / "workspace" / "a" / "loop").symlink_to(root / "workspace" / "a")
    found = [str(path.relative_to(root / "workspace")) for path in await files.glob(pattern)]
    assert [name for name in found if "loop" not in name] == expected


async def test_a_pattern_without_a_match_is_an_error(files: TaskFiles) -> None:
    with pytest.raises(StepFailed, match=r"'docs/\*\.md' matches no file in /workspace"):
        await files.glob("docs/*.md")


async def test_a_match_that_leads_out_is_not_readable(files: TaskFiles, root: Path) -> None:
    (root / "workspace" / "leak.md").symlink_to(root / "outside" / "secret")
    (root / "workspace" / "ok.md").write_text("ok")
    assert await files.glob("*.md") == [root / "workspace" / "ok.md"]


async def test_a_plain_path_is_itself(files: TaskFiles, root: Path) -> None:
    assert await files.glob("what[1]?.md") == [root / "workspace" / "what[1]?.md"]
    assert await files.glob("/inputs/repo/x") == [Path("/inputs/repo/x")]


async def test_a_pattern_that_matches_too_much_is_refused(files: TaskFiles, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setattr("agenttask.runner.globs.MAX_FILES", 2)
    for name in "abc":
        (root / "repo" / name).write_text("x")
    with pytest.raises(StepFailed, match="a narrower pattern"):
        await files.glob("/inputs/repo/*")


async def test_a_folder_that_cannot_be_listed_is_told(files: TaskFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("agenttask.runner.files.matching", refused)
    with pytest.raises(StepFailed, match="Permission denied"):
        await files.glob("*")


def test_a_name_made_to_backtrack_is_matched_at_once(tmp_path: Path) -> None:
    (tmp_path / ("a" * 250)).write_text("")
    assert matching(tmp_path, "*a" * 60 + "*b") == []


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        pytest.param("missing", r"'/workspace/missing' is not there", id="missing"),
        pytest.param("folder", r"is a folder; name files", id="folder"),
        pytest.param("pipe", r"no regular file", id="pipe"),
        pytest.param("latin", r"'/workspace/latin' is not UTF-8: byte 0xe9 at offset 3", id="latin-1"),
        pytest.param("loop", r"cannot be read: Too many levels", id="loop of symlinks"),
        pytest.param("text/below", r"cannot be read: Not a directory", id="below a file"),
    ],
)
async def test_what_is_no_text_is_told(files: TaskFiles, root: Path, name: str, problem: str) -> None:
    workspace = root / "workspace"
    (workspace / "folder").mkdir()
    os.mkfifo(workspace / "pipe")
    (workspace / "latin").write_bytes(b"caf\xe9")
    (workspace / "text").write_text("x")
    (workspace / "loop").symlink_to("loop")
    with pytest.raises(StepFailed, match=problem):
        await files.read_text(Path("/workspace") / name)


async def test_the_loop_looks_at_no_path_and_no_text(files: TaskFiles, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looking: set[threading.Thread] = set()
    realpath, open_ = os.path.realpath, os.open

    def seen(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            looking.add(threading.current_thread())
            return function(*args, **named)

        return call

    monkeypatch.setattr(os.path, "realpath", seen(realpath))
    monkeypatch.setattr(os, "open", seen(open_))
    (root / "repo" / "a.md").write_text("A")
    for pattern in ("/inputs/repo/a.md", "/inputs/repo/*.md"):
        assert [await files.read_text(path) for path in await files.glob(pattern)] == ["A"]
    await files.write_text("b.md", "B")
    await files.write_stream("c.md", pieces(b"C"))
    assert looking
    assert threading.current_thread() not in looking


async def test_a_file_that_is_too_large_is_refused_with_the_limit(files: TaskFiles, root: Path) -> None:
    (root / "repo" / "fits").write_bytes(b"x" * MAX_STEP_TEXT_BYTES)
    (root / "repo" / "big").write_bytes(b"x" * (MAX_STEP_TEXT_BYTES + 1))
    assert len(await files.read_text(Path("/inputs/repo/fits"))) == MAX_STEP_TEXT_BYTES
    with pytest.raises(OutputTooLarge, match="1048576"):
        await files.read_text(Path("/inputs/repo/big"))


async def test_a_write_makes_folders_and_replaces_what_was_there(files: TaskFiles, root: Path) -> None:
    for text in ("first", "sécond"):
        path = await files.write_text("out/deep/note.txt", text)
    assert path == root / "workspace" / "out" / "deep" / "note.txt"
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode), names(path.parent)) == ("sécond", 0o644, ["note.txt"])


async def test_what_cannot_be_written_is_told_and_leaves_nothing(files: TaskFiles, root: Path) -> None:
    (root / "workspace" / "folder").mkdir()
    (root / "workspace" / "text").write_text("x")
    for path, content, problem in (
        ("folder", "x", "cannot be written: Is a directory"),
        ("text/below", "x", "cannot be written: (Not a directory|File exists)"),
        ("half", "a\ud800", "half of a surrogate pair at character 1"),
    ):
        with pytest.raises(StepFailed, match=problem):
            await files.write_text(path, content)
    assert names(root / "workspace") == ["folder", "text"]


async def test_a_full_disk_is_told_with_what_helps(files: TaskFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", full)
    told = "'n' cannot be written: No space left on device; write less, or raise `workspace.sizeLimit`"
    for writing in (files.write_text("n", "x"), files.write_stream("n", pieces())):
        with pytest.raises(StepFailed) as failed:
            await writing
        assert str(failed.value) == told


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "note"
    target.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(target, b"new")
    assert (target.read_text(), names(tmp_path)) == ("old", ["note"])


async def pieces(*chunks: bytes | Exception) -> AsyncIterator[bytes]:
    for chunk in chunks:
        if isinstance(chunk, Exception):
            raise chunk
        yield chunk


async def test_a_stream_makes_folders_and_replaces_what_was_there(files: TaskFiles, root: Path) -> None:
    for content in (b"old", b"new"):
        written = await files.write_stream("a/b", pieces(content, b"!"))
    assert written == root / "workspace/a/b"
    assert (written.read_bytes(), stat.S_IMODE(written.stat().st_mode), names(written.parent)) == (b"new!", 0o644, ["b"])


async def test_nothing_is_left_of_a_stream_that_breaks_off(files: TaskFiles, root: Path) -> None:
    (root / "workspace" / "a").write_text("old")
    with pytest.raises(OutputTooLarge):
        await files.write_stream("a", pieces(b"new", OutputTooLarge("")))
    assert (names(root / "workspace"), (root / "workspace" / "a").read_text()) == (["a"], "old")


async def test_a_stream_that_cannot_be_written_is_told(files: TaskFiles, root: Path) -> None:
    (root / "workspace" / "file").write_text("")
    with pytest.raises(StepFailed, match="'file/a' cannot be written"):
        await files.write_stream("file/a", pieces(b"x"))
    with pytest.raises(StepFailed, match="outside"):
        await files.write_stream("../a", pieces(b"x"))
