"""`keepFiles`: what is kept of a workspace, what is refused, and that it comes back."""

import os
from pathlib import Path

import pytest

from agenttask.api.checkpoint import MAX_KEPT_FILE_BYTES, KeptFile
from agenttask.api.errors import OutputTooLarge, StepFailed
from agenttask.runner.kept_files import collect, restore
from agenttask.runner.places import Places, places


@pytest.fixture
def workspace(tmp_path: Path) -> Places:
    for name in ("workspace", "input"):
        (tmp_path / name).mkdir()
    return places(tmp_path / "workspace", {"repo": tmp_path / "input"})


def put(found: Places, name: str, content: bytes = b"x") -> Path:
    path = found.workspace.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_files_come_back_in_another_workspace(workspace: Places, tmp_path: Path) -> None:
    put(workspace, "a.txt", b"\x00a")
    put(workspace, "deep/er/b.sh", b"b").chmod(0o755)
    put(workspace, "other.bin")
    kept = collect(workspace, ["*.txt", "/workspace/deep/**/*.sh", "a.txt"])
    assert kept == (KeptFile(path="a.txt", content=b"\x00a"), KeptFile(path="deep/er/b.sh", content=b"b", executable=True))
    (tmp_path / "new").mkdir()
    new = places(tmp_path / "new", {})
    restore(new, kept)
    assert collect(new, ["**"]) == kept
    assert os.access(tmp_path / "new/deep/er/b.sh", os.X_OK)


def test_what_comes_back_lies_over_what_is_there(workspace: Places) -> None:
    put(workspace, "a", b"old").chmod(0o400)
    restore(workspace, [KeptFile(path="a", content=b"new")])
    assert (workspace.workspace.folder / "a").read_bytes() == b"new"


def test_a_pattern_that_matches_nothing_keeps_nothing(workspace: Places) -> None:
    assert collect(workspace, ["none/*.txt", "none.txt", "**/*.none"]) == ()


def test_a_symlink_is_followed_inside_of_the_workspace_only(workspace: Places, tmp_path: Path) -> None:
    put(workspace, "a", b"a")
    (tmp_path / "secret").write_text("s")
    (tmp_path / "input/file").write_text("i")
    for name, target in (("in", "a"), ("out", tmp_path / "secret"), ("repo", tmp_path / "input/file"), ("loop", "loop")):
        (workspace.workspace.folder / name).symlink_to(target)
    (workspace.workspace.folder / "folder").symlink_to(tmp_path)
    assert collect(workspace, ["*", "folder/secret", "folder/*"]) == (KeptFile(path="a", content=b"a"), KeptFile(path="in", content=b"a"))


def test_a_pipe_hangs_nobody(workspace: Places) -> None:
    os.mkfifo(workspace.workspace.folder / "pipe")
    assert collect(workspace, ["pipe", "*"]) == ()


def test_a_large_file_is_refused_with_its_name_and_the_limit(workspace: Places) -> None:
    put(workspace, "exact", b"x" * MAX_KEPT_FILE_BYTES)
    assert len(collect(workspace, ["exact"])) == 1
    put(workspace, "large", b"x" * (MAX_KEPT_FILE_BYTES + 1))
    with pytest.raises(OutputTooLarge, match=r"'large' has more than 65536 bytes.*keep smaller ones"):
        collect(workspace, ["*"])


def test_too_much_in_all_is_refused(workspace: Places) -> None:
    for index in range(5):
        put(workspace, f"f{index}", b"x" * MAX_KEPT_FILE_BYTES)
    with pytest.raises(OutputTooLarge, match=r"more than 262144 bytes in all, at 'f4'"):
        collect(workspace, ["*"])


@pytest.mark.parametrize("pattern", ["../x", "/etc/passwd", "/inputs/repo/*", "/workspace", ".", ""])
def test_a_pattern_outside_of_the_workspace_is_refused(workspace: Places, pattern: str) -> None:
    with pytest.raises(StepFailed):
        collect(workspace, [pattern])


def test_too_many_files_are_refused(workspace: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agenttask.runner.globs.MAX_FILES", 2)
    for name in "abc":
        put(workspace, name)
    with pytest.raises(StepFailed, match="narrower"):
        collect(workspace, ["*"])


def test_a_name_that_is_no_text_is_refused(workspace: Places) -> None:
    Path(os.fsdecode(os.fsencode(workspace.workspace.folder) + b"/\xff")).write_text("x")
    with pytest.raises(StepFailed, match="not UTF-8"):
        collect(workspace, ["*"])


@pytest.mark.parametrize(
    ("where", "failure", "said"),
    [
        pytest.param("os.open", FileNotFoundError(2, "gone"), None, id="gone-since"),
        pytest.param("os.open", PermissionError(13, "Permission denied"), "'a' cannot be kept: Permission denied", id="unreadable"),
        pytest.param("os.scandir", PermissionError(13, "Permission denied"), r"keepFiles '\*': Permission denied", id="folder"),
    ],
)
def test_what_cannot_be_read_is_told(
    workspace: Places, monkeypatch: pytest.MonkeyPatch, where: str, failure: OSError, said: str | None
) -> None:
    put(workspace, "a")

    def fail(*_: object) -> int:
        raise failure

    monkeypatch.setattr(where, fail)
    if said is None:
        assert collect(workspace, ["*"]) == ()
    else:
        with pytest.raises(StepFailed, match=said):
            collect(workspace, ["*"])


@pytest.mark.parametrize("path", ["../x", "/etc/x", "out/x", "a/b"])
def test_a_kept_file_goes_nowhere_else(workspace: Places, tmp_path: Path, path: str) -> None:
    put(workspace, "a")
    (workspace.workspace.folder / "out").symlink_to(tmp_path)
    with pytest.raises(StepFailed):
        restore(workspace, [KeptFile(path=path, content=b"x")])
    assert not (tmp_path / "x").exists()
