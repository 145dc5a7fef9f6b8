"""Every setting of the controller stands on its page with its default, and no other."""

import re
from pathlib import Path

import msgspec
import pytest

from agenttask.controller.settings import Settings, read_settings

PAGE = (Path(__file__).parents[2] / "docs" / "controller.md").read_text()
ROWS = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", PAGE.partition("\n## ")[0], re.MULTILINE))
FIELDS = {field.encode_name: field for field in msgspec.structs.fields(Settings)}


def test_the_page_has_every_setting_and_no_other() -> None:
    assert ROWS.keys() == FIELDS.keys()


@pytest.mark.parametrize("key", ["workers", "waitingWritesPerSecond", "probePort"])
def test_a_number_is_documented_with_its_default(key: str) -> None:
    assert ROWS[key] == f"`{FIELDS[key].default}`"


def test_the_variable_of_the_page_is_read() -> None:
    (variable,) = re.findall(r"`(AGENTTASK_CONTROLLER_IMAGES__\w+)`", PAGE)
    assert read_settings(config=None, environ={variable: "x/y:1"}, flags=[]).images.runner_torch == "x/y:1"
