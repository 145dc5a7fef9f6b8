"""`git.clone`: a repository from an allowed host, or from a folder that the task may read.

The clone is made beside its place and takes it when it is whole, so a step that is tried again finds no half of one. The
credential is a header of the one request, from git's environment: it is in no argument, URL or file. The name is resolved
and checked here, and git is told to connect to what was found (git 2.37 or newer).
"""

import base64
import contextlib
import re
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from agenttask.api.errors import InvalidTask, StepFailed
from agenttask.domain.machine_limits import explained
from agenttask.plugin.step import StepContext, StepOutput
from agenttask.plugin.threading import WorkKind
from agenttask_steps.addresses import Lookup, checked_addresses
from agenttask_steps.exclusive import held
from agenttask_steps.git_process import Git, git_for, remove
from agenttask_steps.handing_on import name_of
from agenttask_steps.hosts import AllowedHosts, target_of
from agenttask_steps.rendered import RenderedClone

CREDENTIALS = "credentials"
"""The name under which the context has the secret of `credentials`."""
_REMOTE = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
"""With a scheme, or a `host:path` as ssh has it; a path with a colon can be given as ./a:b."""
_REF = re.compile(r"(?!.*(\.\.|//|@\{|\.lock(/|$)))[^-/.\x00-\x20\x7f~^:?*\[\\][^\x00-\x20\x7f~^:?*\[\\]*(?<![./])")
_USER = "x-access-token"
"""With a token alone; forges that look at the token do not look at the user."""


class _Source(Struct, frozen=True, kw_only=True):
    url: str
    protocol: str
    settings: Mapping[str, str] = {}
    hidden: tuple[str, ...] = ()


async def clone(config: RenderedClone, context: StepContext, lookup: Lookup) -> StepOutput:
    """Clone; `text` is the commit."""
    if config.ref and not _REF.fullmatch(config.ref):
        raise StepFailed(f"ref {config.ref!r} is no name of a branch or tag")
    source = await _source(config, context, lookup)
    target = context.files.writable(config.path)
    async with held(context.locks, {target: config.path}, context.log):
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise StepFailed(f"{config.path!r} is there already, and not an empty folder; clone into another one")
        allowed = {"GIT_ALLOW_PROTOCOL": source.protocol}
        lent = git_for(context, settings=source.settings, environment=allowed, hidden=source.hidden)
        async with lent as git, _beside(target, context) as folder:
            await git.run("clone", *_options(config), "--", source.url, str(folder), folder=folder.parent)
            commit = await _head(git, folder)
            folder.replace(target)
    return StepOutput(text=commit, json={"commit": commit})


def _options(config: RenderedClone) -> Sequence[str]:
    options = ["--quiet", "--no-recurse-submodules", "--template="]
    options += [f"--depth={config.depth}"] if config.depth else []
    options += [f"--branch={config.ref}"] if config.ref else []
    return options


async def _head(git: Git, folder: Path) -> str:
    code, printed = await git.run("rev-parse", "--verify", "--quiet", "HEAD", folder=folder, also=(1,))
    if code:
        raise StepFailed("the repository has no commit yet; there is nothing to clone")
    return printed.decode().strip()


async def _source(config: RenderedClone, context: StepContext, lookup: Lookup) -> _Source:
    """What git is told of where it clones from.

    Raises:
        InvalidTask: the installation does not allow the host, or a credential would go over plain HTTP.
        StepFailed: it is no URL, no folder, or leads where nobody may connect to.
    """
    if not _REMOTE.match(config.url):
        folder = context.files.readable(config.url)
        if not folder.is_dir():
            raise StepFailed(f"{config.url!r} is no folder; give a URL, or the folder of a repository in inputs or workspace")
        if config.credentials is not None:
            raise InvalidTask("git.clone.credentials", f"{config.url!r} is a folder, which takes none")
        return _Source(url=folder.as_uri(), protocol="file")
    target = target_of(config.url)
    hosts = AllowedHosts(context.policy.hosts)
    hosts.check(target, "git.clone.url")
    here = hosts.names_itself(target)
    addresses = await checked_addresses(target, loopback=here, lookup=lookup)
    settings = {}
    if target.address is None:
        settings["http.curloptResolve"] = f"{target.host}:{target.port}:{','.join(map(str, addresses))}"
    hidden: tuple[str, ...] = ()
    if config.credentials is not None:
        if target.scheme != "https" and not here:
            raise InvalidTask("git.clone.credentials", f"{target.authority!r} would get them over plain HTTP; use https")
        word = _basic(context)
        settings[f"http.{target.scheme}://{target.authority}/.extraHeader"] = f"Authorization: Basic {word}"
        hidden = (word,)
    return _Source(url=str(target.url), protocol=target.scheme, settings=settings, hidden=hidden)


def _basic(context: StepContext) -> str:
    """The credential as basic authentication has it; `user:token`, or a token."""
    if CREDENTIALS not in context.secrets:
        raise InvalidTask("git.clone.credentials", "the secret was not handed to this step")
    secret = context.secrets[CREDENTIALS].strip()
    return base64.b64encode((secret if ":" in secret else f"{_USER}:{secret}").encode("utf-8", "surrogatepass")).decode()


@contextlib.asynccontextmanager
async def _beside(target: Path, context: StepContext) -> AsyncIterator[Path]:
    """A name beside `target` for what becomes it; what is left there is removed."""
    folder = target.parent / f".agenttask-{secrets.token_hex(8)}.tmp"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield folder
    except OSError as error:
        raise StepFailed(f"{name_of(target, context.workspace)!r} cannot be written: {explained(error)}") from error
    finally:
        await context.threads.run(WorkKind.BLOCKING_IO, remove, str(folder))
