"""The requirement files hold what pyproject.toml asks for, by hash, and nothing that says where it came from."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.unit.house.pins import pinned

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]


def asked_for(*extras: str) -> list[Requirement]:
    """Direct requirements of the project with these extras; extras of its own are followed."""
    found = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
    left = list(extras)
    for extra in left:
        for requirement in map(Requirement, EXTRAS[extra]):
            if requirement.name == "agenttask":
                left += requirement.extras - set(left)
            else:
                found.append(requirement)
    return found


@pytest.mark.parametrize(
    ("names", "extras"),
    [
        (["controller"], ["controller"]),
        (["runner"], ["runner"]),
        (["runner-torch", "runner"], ["runner", "inference", "gpu"]),
        (["dev"], ["dev"]),
    ],
    ids=lambda names: names[0],
)
def test_each_direct_requirement_is_pinned_within_its_bounds(names: list[str], extras: list[str]) -> None:
    versions = {package: found for name in names for package, found in pinned(ROOT / "requirements" / f"{name}.txt").items()}
    missing = [
        str(wanted)
        for wanted in asked_for(*extras)
        if not any(wanted.specifier.contains(version, prereleases=True) for version in versions.get(canonicalize_name(wanted.name), ()))
    ]
    assert missing == [], "run `make requirements`"


def test_the_image_with_torch_keeps_every_version_when_the_runners_packages_are_installed_after_it() -> None:
    first, then = (pinned(ROOT / "requirements" / f"{name}.txt") for name in ("runner-torch", "runner"))
    assert {name: versions for name, versions in then.items() if first.get(name, versions) != versions} == {}
    assert then.keys() - first.keys() == {"obstore"}


def test_the_wheel_is_built_with_what_pyproject_asks_for() -> None:
    versions = pinned(ROOT / "requirements" / "build.txt")
    assert [wanted for wanted in PROJECT["build-system"]["requires"] if canonicalize_name(Requirement(wanted).name) not in versions] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_pin_has_a_hash_and_no_place(file: Path) -> None:
    text = file.read_text()
    pins = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert [pin.split()[0] for pin in pins if "--hash=sha256:" not in pin] == []
    assert not re.search(r"://|^--?[a-z]", text, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("controller", {"torch", "transformers", "aiofiles", "obstore"}),
        ("runner", {"kopf", "torch", "transformers"}),
        ("runner-torch", {"kopf"}),
    ],
)
def test_a_program_has_no_package_that_it_must_not_import(name: str, absent: set[str]) -> None:
    assert pinned(ROOT / "requirements" / f"{name}.txt").keys() & absent == set()
