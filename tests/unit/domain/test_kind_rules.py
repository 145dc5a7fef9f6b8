"""What the fields of a built-in kind must be to each other."""

from typing import Any

import msgspec
import pytest

from agenttask.api.errors import InvalidTask
from agenttask.api.task import AgentTaskSpec
from agenttask.domain.validation import validate


def problem(*steps: dict[str, Any]) -> tuple[str, str]:
    named = [{"name": f"s{index}", **each} for index, each in enumerate(steps)]
    with pytest.raises(InvalidTask) as caught:
        validate(msgspec.convert({"steps": named}, AgentTaskSpec), step_kinds=None)
    return caught.value.field, caught.value.problem


def chat(**fields: Any) -> dict[str, Any]:
    return {"chat": {"prompt": "x", **fields}}


def fetch(url: str = "https://a.example/", **fields: Any) -> dict[str, Any]:
    return {"fetch": {"url": url, **fields}}


EMBED = {"embed": {"model": "m", "texts": ["a"]}}
RETRIEVE = {"retrieve": {"from": "s0", "query": "q"}}


@pytest.mark.parametrize(
    ("step", "field", "said"),
    [
        pytest.param(chat(), "chat", "exactly one of model and models is needed, none is given", id="no model"),
        pytest.param(chat(model="a", models=["b"]), "chat", "exactly one of model and models is needed, both are given", id="two ways"),
        pytest.param(chat(models=["a", "b", "a"]), "chat.models[2]", "'a' is asked already; name a model once", id="twice"),
        pytest.param(chat(model="a", requireAll=True), "chat.requireAll", "give `models`, or remove it", id="requireAll of one"),
        pytest.param({"chat": {"model": "a"}}, "chat", "there is nothing to ask; give `prompt` or `messages`", id="nothing asked"),
        pytest.param(chat(model="a", responseSchema={"type": "x"}), "chat.responseSchema.type", "'x' is none of", id="schema"),
        pytest.param(
            {"exec": {"command": ["a"], "waitFile": {"path": "a", "jsonSchema": {"items": 1}}}},
            "exec.waitFile.jsonSchema.items",
            "a schema is",
            id="wait file",
        ),
        pytest.param({"git": {}}, "git", "exactly one of clone, commit and diff is needed, none is given", id="no git"),
        pytest.param(
            {"git": {"clone": {"url": "https://a/b", "path": "b"}, "diff": {"path": "b"}}},
            "git",
            "clone and diff is given",
            id="two of git",
        ),
        pytest.param(
            fetch("ftp://a.example"), "fetch.url", "'ftp://a.example' is no URL that begins with https:// or http://", id="scheme"
        ),
        pytest.param(fetch("https:///x"), "fetch.url", "names a host", id="no host"),
        pytest.param(fetch("https://[::1"), "fetch.url", "is no URL: Invalid IPv6 URL", id="broken"),
        pytest.param(fetch("https://a.example:99999"), "fetch.url", "is no URL: Port out of range", id="port"),
        pytest.param(
            fetch("https://u:p@a.example/"),
            "fetch.url",
            "holds a user name or password; give it as a header with `secretKeyRef`",
            id="password",
        ),
        pytest.param(fetch(body="x"), "fetch.body", "a GET request has no body; say `method: POST`", id="body of GET"),
        pytest.param(
            fetch(headers=[{"name": "A"}]),
            "fetch.headers[0]",
            "exactly one of value and secretKeyRef is needed, none is given",
            id="no value",
        ),
        pytest.param(
            fetch(headers=[{"name": "A", "value": "1", "secretKeyRef": {"name": "s", "key": "k"}}]),
            "fetch.headers[0]",
            "both are given",
            id="two values",
        ),
        pytest.param(
            fetch(headers=[{"name": "A", "value": "1"}, {"name": "a", "value": "2"}]),
            "fetch.headers[1].name",
            "'a' is set by spec.steps[0].fetch.headers[0] too",
            id="repeated",
        ),
        pytest.param(
            fetch(headers=[{"name": "Transfer-Encoding", "value": "chunked"}]),
            "fetch.headers[0].name",
            "is set by the connection itself",
            id="of the connection",
        ),
    ],
)
def test_fields_that_contradict_each_other_are_refused(step: dict[str, Any], field: str, said: str) -> None:
    found, why = problem(step)
    assert found == f"spec.steps[0].{field}"
    assert said in why


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"forEach": "{{ ['a'] }}"}, "has `forEach`, and so a collection for each item and none of its own"),
        ({"when": "{{ attempt == 1 }}"}, "has `when`, and so may have no collection"),
        ({"continueOnError": True}, "has `continueOnError`, and so may have no collection"),
    ],
)
def test_an_embed_step_that_may_have_no_collection_is_not_retrieved_from(fields: dict[str, Any], said: str) -> None:
    assert problem(EMBED | fields, RETRIEVE) == (
        "spec.steps[1].retrieve.from",
        f"step 's0' {said}; embed all texts in one step that always runs",
    )


@pytest.mark.parametrize(
    "step",
    [
        chat(models=["a", "b"], requireAll=True),
        {"chat": {"model": "a", "messages": [{"role": "User", "content": "x"}]}},
        fetch("{{ params.url }}"),
        fetch(
            "http://a.example:8080/x?y",
            method="POST",
            body="{}",
            headers=[{"name": "Authorization", "secretKeyRef": {"name": "s", "key": "k"}}],
        ),
        {"git": {"diff": {"path": "."}}},
    ],
)
def test_what_fits_together_is_accepted(step: dict[str, Any]) -> None:
    validate(msgspec.convert({"steps": [{"name": "a", **step}], "params": {"url": "x"}}, AgentTaskSpec), step_kinds=None)
