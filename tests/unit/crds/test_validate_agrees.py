"""`agenttask validate` says what the API server would say: the same objects pass, the same are refused at the same field."""

from typing import Any

import pytest
from tests.unit.crds.rule_cases import ACCEPTED, REFUSED

from agenttask.api.steps import STEP_KINDS
from agenttask.cli.checking import check
from agenttask.cli.manifests import InvalidFile, Manifest
from agenttask.cli.schemas import packaged_schemas

KINDS = (*STEP_KINDS, "shout")


def problems(document: dict[str, Any]) -> list[str]:
    try:
        check([Manifest(file="f", document=1, body=document)], packaged_schemas(), step_kinds=KINDS)
    except InvalidFile as refused:
        return [problem.partition("): ")[2] for problem in refused.problems]
    return []


@pytest.mark.parametrize("document", ACCEPTED)
def test_what_the_server_takes_is_valid(document: dict[str, Any]) -> None:
    assert problems(document) == []


@pytest.mark.parametrize(("document", "path", "message"), REFUSED)
def test_what_the_server_refuses_is_refused_at_the_same_field(document: dict[str, Any], path: str, message: str) -> None:
    found = problems(document)
    assert found, message
    assert any(path in problem for problem in found), found
