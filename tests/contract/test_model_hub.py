"""Weights of a hub: a real download by the hub's own library, from a hub on loopback; and what is refused without one."""

import asyncio
import os
import sys

import pytest
from tests.fakes.hub_server import COMMIT, FakeHub, hub_server

from agenttask.api.errors import ModelRejected, ModelUnavailable
from agenttask.api.model import HubSource
from agenttask_models import hub as hub_module
from agenttask_models.hub import fetch, hub_folder, main

FILES = {
    "config.json": b"{}",
    "model.safetensors": b"\x02\0\0\0\0\0\0\0{}",
    "tokenizer.json": b"{}",
    "README.md": b"read",
    "modeling_evil.py": b"raise SystemExit",
    "pytorch_model.bin": b"pickle",
}


@pytest.fixture
def hub():
    with hub_server(FakeHub("acme/tiny", FILES)) as served:
        yield served


def environ(hub: FakeHub) -> dict[str, str]:
    return {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_secret", "AGENTTASK_CREDENTIAL_0": "secret"}


async def test_weights_are_downloaded_once_and_neither_code_nor_pickles(tmp_path, hub):
    source = HubSource(repository="acme/tiny")
    folder = await hub_folder(source, tmp_path, environ(hub), allowed=True)
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert folder.name == COMMIT
    assert not any("authorization" in headers for headers in hub.headers)
    assert not any("secret" in value for headers in hub.headers for value in headers.values())
    downloads = [path for path in hub.asked if "resolve" in path]
    hub.asked.clear()
    # once it is there, no network is needed
    assert await hub_folder(source, tmp_path, environ(hub), allowed=False) == folder
    assert (hub.asked, len(downloads) >= 3) == ([], True)


async def test_a_commit_pins_the_revision(tmp_path, hub):
    source = HubSource(repository="acme/tiny", revision=COMMIT)
    folders = await asyncio.gather(*(hub_folder(source, tmp_path, environ(hub), allowed=True) for _ in range(2)))
    assert [folder.name for folder in folders] == [COMMIT] * 2


async def test_what_is_not_in_the_cache_is_not_downloaded_without_leave(tmp_path, hub):
    with pytest.raises(
        ModelUnavailable, match=r"local\.hub 'acme/tiny' at revision 'main' is not in the cache, and downloading is switched off"
    ):
        await hub_folder(HubSource(repository="acme/tiny"), tmp_path, environ(hub), allowed=False)
    assert hub.asked == []


@pytest.mark.parametrize(
    "source",
    [HubSource(repository="acme/other"), HubSource(repository="acme/tiny", revision="v9")],
    ids=["repository", "revision"],
)
async def test_what_the_hub_has_not_is_refused(tmp_path, hub, source):
    with pytest.raises(ModelRejected, match=r"is refused by the hub: .*check `repository` and `revision`"):
        await hub_folder(source, tmp_path, environ(hub), allowed=True)


async def test_a_hub_that_is_down_may_be_up_later(tmp_path, hub):
    nowhere = {**environ(hub), "HF_ENDPOINT": "http://127.0.0.1:9"}
    with pytest.raises(ModelUnavailable, match="cannot be fetched"):
        await hub_folder(HubSource(repository="acme/tiny"), tmp_path, nowhere, allowed=True)


async def test_a_download_that_dies_is_told_with_its_last_words(tmp_path, monkeypatch):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho disk full >&2\nexit 3\n")
    script.chmod(0o700)
    monkeypatch.setattr(hub_module.sys, "executable", str(script))
    with pytest.raises(ModelUnavailable, match=r"the download ended with 3: disk full"):
        await hub_folder(HubSource(repository="acme/tiny"), tmp_path, dict(os.environ), allowed=True)


async def test_a_caller_that_leaves_ends_the_download(tmp_path, monkeypatch):
    script, pid = tmp_path / "python", tmp_path / "pid"
    script.write_text(f"#!/bin/sh\necho $$ > {pid}.new\nmv {pid}.new {pid}\nexec sleep 60\n")
    script.chmod(0o700)
    monkeypatch.setattr(hub_module.sys, "executable", str(script))
    call = asyncio.ensure_future(hub_folder(HubSource(repository="acme/tiny"), tmp_path, dict(os.environ), allowed=True))
    async with asyncio.timeout(30):
        while not pid.exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_the_childs_program_says_where_it_is_or_why_not(tmp_path, capsys):
    assert fetch("not a name", "main", str(tmp_path), download=False).keys() == {"rejected"}
    assert fetch("acme/none", "main", str(tmp_path), download=False).keys() == {"offline"}
    assert main([f'{{"repository": "acme/none", "revision": "main", "cache": "{tmp_path}", "download": false}}']) == 0
    assert capsys.readouterr().out.startswith('{"offline": ')
    assert sys.executable
