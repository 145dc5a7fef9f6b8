"""Reads requirement files."""

import re
from pathlib import Path

from packaging.utils import canonicalize_name


def pinned(file: Path) -> dict[str, set[str]]:
    """Versions by name; a name may have several, for different Pythons."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", file.read_text(), flags=re.MULTILINE):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found
