"""What a wait file holds: judged whole, with a reason for what is not right."""

import os

import pytest

from agenttask.api.constants import MAX_STEP_TEXT_BYTES
from agenttask_steps.content import Content, Inspected, inspect

SCHEMA = {"type": "object", "required": ["ok"], "properties": {"ok": {"type": "boolean"}}}


@pytest.mark.parametrize(
    ("raw", "content", "problem"),
    [
        (b"work is DONE", Content(contains="DONE"), None),
        (b"work is do", Content(contains="DONE"), "it does not contain 'DONE'"),
        (b"", Content(contains="DONE"), "it does not contain 'DONE'"),
        (b'{"ok": tr', Content(json_schema=SCHEMA), "it is no JSON: Input data was truncated"),
        (b"", Content(json_schema=SCHEMA), "it is no JSON: Input data was truncated"),
        (b"\xff\xfe", Content(json_schema=SCHEMA), "it is no JSON: JSON is malformed"),
        (b'"\xff"', Content(json_schema=SCHEMA), "it is no JSON: "),
        (b"[" * 100_000, Content(json_schema=SCHEMA), "it is no JSON: "),
        (b"{}", Content(json_schema=SCHEMA), "it does not fit jsonSchema: $: 'ok' is a required property"),
        (b'{"ok": 1}', Content(json_schema=SCHEMA), "it does not fit jsonSchema: $.ok: 1 is not of type 'boolean'"),
        (b'{"ok": true}', Content(json_schema=SCHEMA), None),
        (b'{"ok": true}', Content(json_schema=SCHEMA, contains="DONE"), "it does not contain 'DONE'"),
        (b" " * (MAX_STEP_TEXT_BYTES + 1), Content(contains=" "), "it has more than 1048576 bytes, the most that is read"),
    ],
)
def test_the_content_is_judged(tmp_path, raw, content, problem):
    (tmp_path / "file").write_bytes(raw)
    found = inspect(tmp_path / "file", content)
    assert (found.problem or "").startswith(problem or "")
    assert (found.problem is None) is (problem is None)


def test_the_value_of_json_is_handed_on(tmp_path):
    (tmp_path / "file").write_text('{"ok": true, "n": [1]}')
    assert inspect(tmp_path / "file", Content(json_schema=SCHEMA)) == Inspected(value={"ok": True, "n": [1]})
    assert inspect(tmp_path / "file", Content(contains="ok")) == Inspected()


def test_only_a_regular_file_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "folder").mkdir()
    assert inspect(tmp_path / "pipe", Content(contains="x")).problem == "it is no regular file"
    assert "cannot be read: Too many levels of symbolic links" in str(inspect(tmp_path / "link", Content(contains="x")).problem)
    assert "cannot be read: Is a directory" in str(inspect(tmp_path / "folder", Content(contains="x")).problem)
    assert inspect(tmp_path / "none", Content(contains="x")).problem == "it cannot be read: No such file or directory"
