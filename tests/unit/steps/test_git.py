"""`git` with the real program, against its own HTTP server on this machine."""

import asyncio
import base64
import os
from pathlib import Path

import pytest
from tests.fakes.git_server import git, git_server, repository
from tests.fakes.step_context import step_context

from agenttask.api.constants import MAX_STEP_TEXT_BYTES
from agenttask.api.document import Policy
from agenttask.api.errors import InvalidTask, OutputTooLarge, ServiceUnavailable, StepFailed
from agenttask.runner.locks import PathLocks
from agenttask_steps.git import GitStep
from agenttask_steps.rendered import RenderedClone, RenderedCommit, RenderedDiff, RenderedGit


@pytest.fixture
async def server(tmp_path):
    repository(tmp_path / "served" / "repo", **{"README.md": "hello\n"})
    async with git_server(tmp_path / "served") as server:
        yield server


@pytest.fixture
def workspace(tmp_path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


async def here(host, port):
    return ["127.0.0.1"]


def lent(workspace, server=None, *, hosts=None, **more):
    hosts = (f"127.0.0.1:{server.port}",) if hosts is None and server is not None else hosts or ()
    (workspace.parent / "tmp").mkdir(exist_ok=True)
    environment = {"TMPDIR": str(workspace.parent / "tmp")}
    return step_context(workspace, policy=Policy(hosts=hosts), environment=environment, **more)


async def clone(workspace, server=None, url=None, *, context=None, **fields):
    url = url or f"http://127.0.0.1:{server.port}/repo"
    config = RenderedGit(clone=RenderedClone(url=url, path="repo", **fields))
    return await GitStep(lookup=here).run(config, context or lent(workspace, server))


async def commit(workspace, *, context=None, **fields):
    config = RenderedGit(commit=RenderedCommit(**{"path": "repo", "message": "m", **fields}))
    return await GitStep().run(config, context or lent(workspace))


async def diff(workspace, *, context=None, **fields):
    return await GitStep().run(RenderedGit(diff=RenderedDiff(**{"path": "repo", **fields})), context or lent(workspace))


def left_over(workspace) -> list[str]:
    return [path.name for path in (*workspace.glob(".agenttask-*"), *(workspace.parent / "tmp").glob("*"))]


# ---- clone


async def test_a_repository_is_cloned(server, workspace):
    output = await clone(workspace, server)
    assert output.text == git(server.root / "repo", "rev-parse", "HEAD")
    assert (workspace / "repo" / "README.md").read_text() == "hello\n"
    assert left_over(workspace) == []


async def test_a_branch_is_cloned_and_only_as_deep_as_wanted(server, workspace):
    source = server.root / "repo"
    git(source, "checkout", "--quiet", "-b", "feature/x")
    for number in range(3):
        git(source, "commit", "--quiet", "--allow-empty", "-m", str(number))
    output = await clone(workspace, server, ref="feature/x")
    assert output.text == git(source, "rev-parse", "feature/x")
    assert git(workspace / "repo", "rev-list", "--count", "HEAD") == "1"


async def test_depth_nought_is_all_of_the_history(server, workspace):
    git(server.root / "repo", "commit", "--quiet", "--allow-empty", "-m", "second")
    await clone(workspace, server, depth=0)
    assert git(workspace / "repo", "rev-list", "--count", "HEAD") == "2"


async def test_a_name_is_resolved_once_and_git_connects_to_what_was_found(server, workspace):
    asked = []

    async def lookup(host, port):
        asked.append((host, port))
        return ["127.0.0.1"]

    port = server.port
    config = RenderedGit(clone=RenderedClone(url=f"http://localhost:{port}/repo", path="repo"))
    await GitStep(lookup=lookup).run(config, lent(workspace, hosts=(f"localhost:{port}",)))
    assert asked == [("localhost", port)]


async def test_git_connects_to_the_address_and_not_to_what_the_name_says(server, workspace):
    async def lookup(host, port):
        return ["127.0.0.9"]  # nobody listens there

    config = RenderedGit(clone=RenderedClone(url=f"http://localhost:{server.port}/repo", path="repo"))
    with pytest.raises(ServiceUnavailable, match="git clone exited 128"):
        await GitStep(lookup=lookup).run(config, lent(workspace, hosts=(f"localhost:{server.port}",)))
    assert server.requests == []


@pytest.mark.parametrize(
    ("secret", "word"), [("t0ken\n", "x-access-token:t0ken"), ("me:t0ken", "me:t0ken")], ids=["token", "user-and-token"]
)
async def test_the_credential_is_a_header_and_stands_nowhere_else(server, workspace, secret, word, monkeypatch):
    from agenttask_steps import git_process

    server.authorization = f"Basic {base64.b64encode(word.encode()).decode()}"
    started = []
    monkeypatch.setattr(git_process, "Invocation", lambda **fields: started.append(fields) or Invocation(**fields))
    from agenttask_steps.process import Invocation

    log: list[str] = []
    context = lent(workspace, server, secrets={"credentials": secret}, log=log.append)
    await clone(workspace, server, credentials={"name": "s", "key": "k"}, context=context)
    encoded = server.authorization.removeprefix("Basic ")
    for forbidden in ("t0ken", encoded):
        assert not any(forbidden in word for each in started for word in each["argv"])
        assert not any(forbidden in line for line in log)
        for path in (workspace / "repo" / ".git").rglob("*"):
            assert not path.is_file() or forbidden.encode() not in path.read_bytes()


async def test_a_wrong_credential_is_told_and_does_not_show(server, workspace):
    server.authorization = "Basic other"
    log: list[str] = []
    context = lent(workspace, server, secrets={"credentials": "t0ken"}, log=log.append)
    with pytest.raises(StepFailed, match="Authentication failed") as failed:
        await clone(workspace, server, credentials={"name": "s", "key": "k"}, context=context)
    assert "t0ken" not in str(failed.value) + "".join(log)
    assert left_over(workspace) == []


async def test_a_credential_does_not_go_over_plain_http(workspace):
    context = lent(workspace, hosts=("git.example",), secrets={"credentials": "t"})

    async def lookup(host, port):
        return ["10.0.0.1"]

    config = RenderedGit(clone=RenderedClone(url="http://git.example/a", path="repo", credentials={"name": "s", "key": "k"}))
    with pytest.raises(InvalidTask, match="plain HTTP"):
        await GitStep(lookup=lookup).run(config, context)


async def test_a_secret_that_was_not_handed_over_is_told(server, workspace):
    with pytest.raises(InvalidTask, match="was not handed"):
        await clone(workspace, server, credentials={"name": "s", "key": "k"})


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        ("https://evil.example/a", InvalidTask, r"git\.clone\.url: .*evil\.example"),
        ("ext::sh -c touch% /tmp/owned", StepFailed, "is no http or https URL|holds a space"),
        ("ext::touch", StepFailed, "is no http or https URL"),
        ("ssh://git@github.com/a", StepFailed, "is no http or https URL"),
        ("git@github.com:a/b", StepFailed, "is no folder|outside"),
        ("git://127.0.0.1/a", StepFailed, "is no http or https URL"),
        ("file:///etc", StepFailed, "is no http or https URL"),
        ("/etc", StepFailed, "outside"),
        ("../served/repo", StepFailed, "outside"),
        ("--upload-pack=touch /tmp/owned", StepFailed, "is no folder"),
        ("-u", StepFailed, "is no folder"),
        ("http://--upload-pack=x/", StepFailed, "names the host|cannot be read"),
    ],
)
async def test_what_is_no_allowed_place_is_refused(workspace, url, error, said):
    with pytest.raises(error, match=said):
        await clone(workspace, url=url)
    assert list(workspace.iterdir()) == []


@pytest.mark.parametrize(
    "ref", ["--upload-pack=touch /tmp/owned", "-c", "a..b", "a b", "a~1", "@{-1}x@{0}", "a.lock", "/a", "a/", "a\nb", "."]
)
async def test_a_ref_that_is_no_name_is_refused(server, workspace, ref):
    with pytest.raises(StepFailed, match="is no name of a branch or tag"):
        await clone(workspace, server, ref=ref)


async def test_a_ref_that_is_not_there_is_told(server, workspace):
    with pytest.raises(StepFailed, match="Remote branch missing not found"):
        await clone(workspace, server, ref="missing")


async def test_a_folder_of_the_workspace_is_cloned(workspace):
    source = repository(workspace / "source", a="1")
    assert (await clone(workspace, url="source")).text == git(source, "rev-parse", "HEAD")
    assert (workspace / "repo" / "a").read_text() == "1"


async def test_a_folder_whose_name_looks_like_an_option_is_a_folder(workspace):
    source = repository(workspace / "--upload-pack=touch owned", a="1")
    assert (await clone(workspace, url="--upload-pack=touch owned")).text == git(source, "rev-parse", "HEAD")
    assert not (workspace / "owned").exists()


async def test_a_folder_takes_no_credentials(workspace):
    repository(workspace / "source", a="1")
    with pytest.raises(InvalidTask, match="takes none"):
        await clone(workspace, url="source", credentials={"name": "s", "key": "k"})


async def test_hooks_and_submodules_of_the_source_do_nothing(workspace):
    source = repository(workspace / "source", a="1")
    git(source, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(repository(workspace / "other", b="2")), "sub")
    git(source, "commit", "--quiet", "-m", "sub")
    await clone(workspace, url="source")
    assert list((workspace / "repo" / "sub").iterdir()) == []
    assert not (workspace / "repo" / ".git" / "hooks").exists()


async def test_a_place_that_is_taken_is_told(server, workspace):
    (workspace / "repo").mkdir()
    await clone(workspace, server)
    with pytest.raises(StepFailed, match="is there already, and not an empty folder"):
        await clone(workspace, server)


async def test_a_repository_without_a_commit_is_told(server, workspace):
    (server.root / "empty").mkdir()
    git(server.root / "empty", "init", "--quiet")
    with pytest.raises(StepFailed, match="has no commit yet"):
        await clone(workspace, server, url=f"http://127.0.0.1:{server.port}/empty")
    assert list(workspace.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (503, ServiceUnavailable, "returned error: 503"),
        (429, ServiceUnavailable, "returned error: 429"),
        (404, StepFailed, "not found"),
        (302, StepFailed, "redirects are not followed"),
    ],
)
async def test_what_the_server_says_is_a_typed_error(server, workspace, status, error, said):
    server.status, server.headers = status, {"Location": "http://evil.example/"} if status == 302 else {}
    with pytest.raises(error, match=said):
        await clone(workspace, server)
    assert left_over(workspace) == []


async def test_nobody_listening_is_worth_a_retry(server, workspace):
    hosts = (f"127.0.0.2:{server.port}",)
    with pytest.raises(ServiceUnavailable):
        await clone(workspace, url=f"http://127.0.0.2:{server.port}/repo", context=lent(workspace, hosts=hosts))


async def test_a_cancelled_clone_leaves_nothing(workspace):
    asked = asyncio.Event()

    async def hang(reader, writer):
        asked.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        context = lent(workspace, hosts=(f"127.0.0.1:{port}",))
        cloning = asyncio.create_task(clone(workspace, url=f"http://127.0.0.1:{port}/repo", context=context))
        await asyncio.wait_for(asked.wait(), 60)
        cloning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cloning
    assert (list(workspace.iterdir()), left_over(workspace)) == ([], [])


async def test_an_image_without_git_says_so(server, workspace):
    context = step_context(workspace, policy=Policy(hosts=(f"127.0.0.1:{server.port}",)), environment={"PATH": "/nowhere"})
    with pytest.raises(StepFailed, match="git is not found; PATH is /nowhere; use an image that has it"):
        await clone(workspace, server, context=context)


@pytest.mark.parametrize(
    "config",
    [RenderedGit(), RenderedGit(clone=RenderedClone(url="a", path="b"), commit=RenderedCommit(path="a", message="m"))],
    ids=["none", "two"],
)
async def test_exactly_one_operation_is_needed(workspace, config):
    with pytest.raises(InvalidTask, match="exactly one of"):
        await GitStep().run(config, lent(workspace))


# ---- commit


async def test_changes_are_committed(workspace):
    repo = repository(workspace / "repo", a="1", gone="1")
    (repo / "a").write_text("2")
    (repo / "gone").unlink()
    (repo / "new").write_text("3")
    output = await commit(workspace, message="--amend\n\n# kept\n", author="A. Gent <a@example.com>")
    assert output.text == git(repo, "rev-parse", "HEAD") != git(repo, "rev-parse", "HEAD~1")
    assert output.json == {"commit": output.text, "changed": True}
    assert git(repo, "log", "-1", "--format=%an <%ae> %cn <%ce>%n%B").strip() == (
        "A. Gent <a@example.com> A. Gent <a@example.com>\n--amend\n\n# kept"
    )
    assert git(repo, "status", "--porcelain") == ""


async def test_only_what_is_named_is_committed(workspace):
    repo = repository(workspace / "repo", a="1")
    for name in ("b.py", "c.txt", "-d"):
        (repo / name).write_text("2")
    await commit(workspace, add=("*.py", "-d"))
    assert git(repo, "status", "--porcelain") == "?? c.txt"


async def test_nothing_to_commit_is_the_present_commit(workspace):
    repo = repository(workspace / "repo", a="1")
    log: list[str] = []
    output = await commit(workspace, context=lent(workspace, log=log.append))
    assert (output.text, output.json["changed"]) == (git(repo, "rev-parse", "HEAD"), False)
    assert log == [f"nothing has changed; the present commit is {output.text}"]


async def test_the_first_commit_of_a_repository_is_made(workspace):
    (workspace / "repo").mkdir()
    git(workspace / "repo", "init", "--quiet")
    with pytest.raises(StepFailed, match="no commit yet, and nothing to commit"):
        await commit(workspace)
    (workspace / "repo" / "a").write_text("1")
    assert (await commit(workspace)).json["changed"]


async def test_hooks_and_settings_of_a_repository_are_not_run(workspace):
    repo = repository(workspace / "repo", a="1")
    for name in ("pre-commit", "commit-msg", "post-commit"):
        hook = repo / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\ntouch owned\nexit 1\n")
        hook.chmod(0o755)
    git(repo, "config", "core.hooksPath", str(repo / ".git" / "hooks"))
    git(repo, "config", "filter.x.clean", f"touch {repo}/owned; cat")
    git(repo, "config", "filter.x.required", "true")
    (repo / ".gitattributes").write_text("* filter=x\n")
    (repo / "a").write_text("2")
    log: list[str] = []
    await commit(workspace, context=lent(workspace, log=log.append))
    assert not (repo / "owned").exists()
    assert log[0] == "filters of the repository are not run: x"
    assert git(repo, "show", "HEAD:a") == "2"


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"author": "nobody"}, InvalidTask, "is not of the form"),
        ({"message": " \n"}, InvalidTask, "message: is empty"),
        ({"add": ("missing",)}, StepFailed, "pathspec 'missing' did not match"),
        ({"path": "."}, StepFailed, "is no git repository"),
        ({"path": "repo/a"}, StepFailed, "is no git repository"),
        ({"path": "../served"}, StepFailed, "outside"),
        ({"add": ("a\0b",)}, StepFailed, "NUL"),
    ],
    ids=["author", "message", "add", "no-repository", "a-file", "outside", "nul"],
)
async def test_what_cannot_be_committed_is_told(workspace, fields, error, said):
    repository(workspace / "repo", a="1")
    with pytest.raises(error, match=said):
        await commit(workspace, **fields)


async def test_a_repository_above_the_workspace_is_not_touched(workspace):
    git(workspace.parent, "init", "--quiet")
    with pytest.raises(StepFailed, match="is no git repository"):
        await commit(workspace, path=".")


async def test_the_repository_is_held_meanwhile(workspace):
    repo = repository(workspace / "repo", a="1")
    (repo / "sub").mkdir()
    locks = PathLocks()
    async with locks.hold(repo.resolve() / "a"):
        committing = asyncio.create_task(commit(workspace, path="repo/sub", context=lent(workspace, locks=locks)))
        await asyncio.sleep(0.05)
        assert not committing.done()
    await asyncio.wait_for(committing, 60)


# ---- diff


async def test_what_has_changed_is_a_patch_and_a_list(workspace):
    repo = repository(workspace / "repo", a="1\n", gone="1\n", same="1\n", **{".gitignore": "ignored\n"})
    (repo / "a").write_text("2\n")
    (repo / "gone").unlink()
    (repo / "größe").write_text("3\n")
    (repo / "ignored").write_text("4\n")
    output = await diff(workspace)
    assert output.json == [
        {"path": "a", "change": "Modified"},
        {"path": "gone", "change": "Deleted"},
        {"path": "größe", "change": "Added"},
    ]
    assert "-1\n+2\n" in output.text
    assert "+++ b/größe" in output.text
    assert git(repo, "status", "--porcelain", "-z") == " M a\0 D gone\0?? größe\0"
    assert left_over(workspace) == []


async def test_a_change_of_the_commits_own_second_and_size_is_seen(workspace):
    found = repository(workspace / "repo", a="1")
    git(found, "config", "core.trustctime", "false")
    os.utime(found / "a", (1_000_000_000, 1_000_000_000))
    git(found, "add", "--refresh", "a")
    (found / "a").write_text("2")
    for path in (found / "a", found / ".git" / "index"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    assert (await diff(workspace)).json == [{"path": "a", "change": "Modified"}]


async def test_two_commits_are_compared(workspace):
    repo = repository(workspace / "repo", a="1\n", b="1\n")
    for name in ("a", "b"):
        (repo / name).write_text("2\n")
    git(repo, "commit", "--quiet", "-am", "second")
    (repo / "a").write_text("3\n")
    output = await diff(workspace, base="HEAD~1", head="HEAD", paths=("a",))
    assert output.json == [{"path": "a", "change": "Modified"}]
    assert "+2\n" in output.text


async def test_nothing_changed_is_an_empty_patch(workspace):
    repository(workspace / "repo", a="1")
    output = await diff(workspace, paths=("missing",))
    assert (output.text, output.json) == ("", [])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"base": "--output=/tmp/owned"}, "is no name of a commit"),
        ({"head": "-O/tmp/owned"}, "is no name of a commit"),
        ({"base": "missing"}, "'missing' names no commit"),
        ({"base": "HEAD..HEAD"}, "names no commit"),
        ({"base": "HEAD~9"}, "a clone of `depth: 1` has only its last one"),
    ],
    ids=["option", "option-as-head", "missing", "range", "too-deep"],
)
async def test_what_is_no_commit_is_refused(workspace, fields, said):
    repository(workspace / "repo", a="1")
    with pytest.raises(StepFailed, match=said):
        await diff(workspace, **fields)


async def test_a_path_that_looks_like_an_option_is_a_path(workspace):
    repo = repository(workspace / "repo", a="1")
    (repo / "--output=owned").write_text("x")
    assert (await diff(workspace, paths=("--output=owned",))).json == [{"path": "--output=owned", "change": "Added"}]
    assert not (repo / "owned").exists()


async def test_programs_that_a_repository_names_for_its_diffs_are_not_run(workspace):
    repo = repository(workspace / "repo", a="1\n", **{".gitattributes": "* diff=x\n"})
    for key in ("diff.external", "diff.x.command", "diff.x.textconv", "core.fsmonitor"):
        git(repo, "config", key, f"touch {repo}/owned; cat")
    (repo / "a").write_text("2\n")
    output = await diff(workspace)
    assert "-1\n+2\n" in output.text
    assert not (repo / "owned").exists()


async def test_a_patch_that_is_too_large_is_told(workspace):
    repo = repository(workspace / "repo", a="1")
    (repo / "a").write_text("x\n" * MAX_STEP_TEXT_BYTES)
    with pytest.raises(OutputTooLarge, match="git diff prints more than"):
        await diff(workspace)


async def test_bytes_that_are_no_text_are_replaced_and_told(workspace):
    repo = repository(workspace / "repo", a="1")
    (repo / "a").write_bytes(b"gr\xfc\n")
    log: list[str] = []
    output = await diff(workspace, context=lent(workspace, log=log.append))
    assert "gr\ufffd" in output.text
    assert log == ["the patch is not all UTF-8; the bytes that are not were replaced by U+FFFD"]


async def test_a_repository_of_somebody_else_is_fine(workspace):
    repo = repository(workspace / "repo", a="1")
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    for path in (repo, *repo.rglob("*")):
        os.chown(path, 12345, 12345)
    assert (await diff(workspace)).text == ""
    await GitStep().run(RenderedGit(clone=RenderedClone(url="repo", path="copy")), lent(workspace))
