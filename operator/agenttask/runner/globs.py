"""Matching files below a place by a pattern: `*` stands for a part of one name, `**` for any number of folders.

As in a shell, neither matches a name that begins with a dot. That leaves out the `..data` folder of a mounted
ConfigMap, where the same files stand a second time: a key is a symlink into it. A symlink to a folder is not entered by
`**`, so a loop ends.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

MAX_FILES = 10_000
"""More matches than any step can take; a wrong pattern stops here and not when memory ends."""


class TooManyFiles(Exception):
    """A pattern matches more than `MAX_FILES`."""


def is_pattern(path: str) -> bool:
    """Whether a path is a pattern; `?` and `[` are ordinary letters."""
    return "*" in path


def matching(folder: Path, pattern: str) -> list[str]:
    """The files (symlinks to files included) below `folder` that match, as sorted relative paths; blocking.

    Raises:
        TooManyFiles: more than a step can take.
        OSError: a folder cannot be listed.
    """
    found: set[str] = set()
    for match in _walk(folder, "", _parts(pattern)):
        found.add(match)
        if len(found) > MAX_FILES:
            raise TooManyFiles
    return sorted(found)


def _parts(pattern: str) -> tuple[str, ...]:
    """The names of a pattern; several `**` in a row are one, or each would multiply the walk."""
    parts = [part for part in pattern.split("/") if part]
    return tuple(part for index, part in enumerate(parts) if part != "**" or parts[index - 1 : index] != ["**"])


def _walk(folder: Path, base: str, parts: tuple[str, ...]) -> Iterator[str]:
    head, rest = parts[0], parts[1:]
    if head == "**":
        yield from _walk(folder, base, rest or ("*",))
        for name in _folders(folder / base):
            yield from _walk(folder, f"{base}{name}/", parts)
    elif not rest:
        yield from (base + name for name in _names(folder / base, head) if (folder / base / name).is_file())
    else:
        for name in _names(folder / base, head):
            if (folder / base / name).is_dir():
                yield from _walk(folder, f"{base}{name}/", rest)


def _names(folder: Path, pattern: str) -> list[str]:
    if not is_pattern(pattern):
        return [pattern]
    expression = re.compile(_expression(pattern), re.DOTALL)
    hidden = pattern.startswith(".")
    return [entry.name for entry in _entries(folder) if expression.fullmatch(entry.name) and (hidden or not entry.name.startswith("."))]


def _expression(pattern: str) -> str:
    """As fnmatch does it: each middle piece is taken where it first fits, so that no name makes the matching go back and forth."""
    first, *middle, last = (re.escape(piece) for piece in re.split(r"\*+", pattern))
    return f"{first}{''.join(f'(?>.*?{piece})' for piece in middle)}.*{last}"


def _folders(folder: Path) -> list[str]:
    return [entry.name for entry in _entries(folder) if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
