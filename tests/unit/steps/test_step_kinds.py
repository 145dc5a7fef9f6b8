"""The kinds come through the plugins' door, and their fields are the api's."""

import msgspec
import pytest

from agenttask.api import steps as api
from agenttask.plugin.registry import load
from agenttask_steps import agenttask_step_kinds, rendered

PAIRS = {
    rendered.RenderedRead: api.Read,
    rendered.RenderedWrite: api.Write,
    rendered.RenderedExec: api.Exec,
    rendered.RenderedVariable: api.ExecEnvVar,
    rendered.RenderedWaitFile: api.WaitFile,
    rendered.RenderedChat: api.Chat,
    rendered.RenderedEmbed: api.Embed,
    rendered.RenderedRetrieve: api.Retrieve,
    rendered.RenderedMessage: api.ChatMessage,
    rendered.RenderedFetch: api.Fetch,
    rendered.RenderedHeader: api.FetchHeader,
    rendered.RenderedGit: api.Git,
    rendered.RenderedClone: api.GitClone,
    rendered.RenderedCommit: api.GitCommit,
    rendered.RenderedDiff: api.GitDiff,
}


@pytest.mark.parametrize("ours", PAIRS, ids=lambda ours: ours.__name__)
def test_the_rendered_fields_are_those_of_the_api(ours):
    def names(kind):
        return {
            field.encode_name: field.default if isinstance(field.default, (str, int, tuple)) else None
            for field in msgspec.structs.fields(kind)
        }

    assert names(ours) == names(PAIRS[ours])


def test_every_kind_of_the_api_is_there():
    assert set(agenttask_step_kinds()) == set(api.STEP_KINDS) - {"plugin"}


def test_they_load_as_plugins():
    kinds = load().step_kinds
    assert kinds.choose("exec")().schema is rendered.RenderedExec


def test_a_long_rendered_prompt_is_accepted():
    config = {"model": "m", "prompt": "x" * 500_000}
    assert len(msgspec.convert(config, rendered.RenderedChat, strict=True).prompt) == 500_000


def test_an_exec_of_the_wire_converts():
    wire = {
        "command": ["a"],
        "env": [{"name": "K", "secretKeyRef": {"name": "n", "key": "k"}}],
        "waitFile": {"path": "p", "timeoutSeconds": 5},
    }
    config = msgspec.convert(wire, rendered.RenderedExec, strict=True)
    assert (config.wait_file.timeout_seconds, config.env[0].secret_key_ref) == (5, {"name": "n", "key": "k"})
