"""`git.commit`: commits what has changed; `text` is the new commit, or the present one where nothing has."""

import re

from agenttask.api.errors import InvalidTask, StepFailed
from agenttask.plugin.step import StepContext, StepOutput
from agenttask_steps.git_repository import repository
from agenttask_steps.rendered import RenderedCommit

_AUTHOR = re.compile(r"([^<>\n\0]+) <([^<>\s\0]+)>")


async def commit(config: RenderedCommit, context: StepContext) -> StepOutput:
    """Stage what `add` names, deletions too, and commit it; the author is the committer."""
    author = _AUTHOR.fullmatch(config.author)
    if author is None:
        raise InvalidTask("git.commit.author", f"{config.author!r} is not of the form Name <address>")
    if not config.message.strip():
        raise InvalidTask("git.commit.message", "is empty")
    name, address = author.groups()
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in (("NAME", name), ("EMAIL", address))}
    async with repository(config.path, context) as found:
        git, folder = found.git, found.folder
        await git.run("add", "--all", "--", *config.add, folder=folder)
        changed, _ = await git.run("diff", "--cached", "--quiet", "--no-ext-diff", folder=folder, also=(1,))
        if changed:
            message = config.message.encode("utf-8", "replace")
            await git.run("commit", "--quiet", "--no-verify", "--file=-", folder=folder, stdin=message, environment=who)
        code, printed = await git.run("rev-parse", "--verify", "--quiet", "HEAD", folder=folder, also=(1,))
        if code:
            raise StepFailed(f"{config.path!r} has no commit yet, and nothing to commit")
    head = printed.decode().strip()
    context.log(f"committed {head}" if changed else f"nothing has changed; the present commit is {head}")
    return StepOutput(text=head, json={"commit": head, "changed": bool(changed)})
