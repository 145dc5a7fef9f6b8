"""ARCHITECTURE.md is a map that stays true: the files that it names exist, and every package has a room."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "ARCHITECTURE.md").read_text()
ROOMS = ("api", "domain", "plugin", "telemetry", "controller", "runner", "cli")


def named_files() -> set[str]:
    return set(re.findall(r"\b[a-z_]+(?:/[a-z_0-9]+)*\.(?:py|yaml)\b", TEXT))


@pytest.mark.parametrize("name", sorted(named_files()))
def test_a_file_on_the_map_exists(name: str) -> None:
    places = [ROOT, ROOT / "operator" / "agenttask", *(ROOT / "operator" / "agenttask" / room for room in ROOMS)]
    assert any((place / name).exists() for place in places)


def test_every_package_has_a_room_on_the_map() -> None:
    packages = {path.parent.name for path in (ROOT / "operator" / "agenttask").glob("*/__init__.py")}
    assert packages == {room for room in ROOMS if f"operator/agenttask/{room}`" in TEXT}
