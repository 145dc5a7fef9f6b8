"""The JSON value in what a model says, and whether it fits.

Models wrap JSON in a code fence, or in words. A value is taken out of them only where there is no choice: the whole answer,
else the one fenced block that is JSON, else the one object or list that stands in the text. Two candidates are none: which
one was meant is for the model to say.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from agenttask_steps.json_schema import problems_of

_FENCE = "```"
_DECODER = json.JSONDecoder()
_TRIES = 64
"""Beginnings of a value that turn out to be none; each costs a look at the rest of the text."""


class Judged(Struct, frozen=True, kw_only=True):
    """The value in an answer, and what is wrong with it; nothing is, where `problems` is empty."""

    value: Any = None
    problems: tuple[str, ...] = ()


def judge(text: str, schema: Mapping[str, Any]) -> Judged:
    """Find the value, and hold it against a checked schema; pure, for any thread or process."""
    found = _values(text)
    if not found:
        return Judged(problems=("it holds no JSON value",))
    if len(found) > 1:
        return Judged(problems=(f"it holds {len(found)} JSON values, and not one",))
    return Judged(value=found[0], problems=tuple(problems_of(found[0], schema)))


def _values(text: str) -> list[Any]:
    """The candidates of the best kind."""
    for candidates in ([text], _fenced(text), _standing(text)):
        found = [value for each in candidates for value in _decoded(each)]
        if found:
            return found
    return []


def _decoded(text: str) -> Iterator[Any]:
    """The one value that `text` is, or nothing."""
    try:
        yield msgspec.json.decode(text.strip())
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return


def _fenced(text: str) -> Iterator[str]:
    """What stands between fences, without the language's name."""
    pieces = text.split(_FENCE)
    for piece in pieces[1::2]:
        language, line, block = piece.partition("\n")
        yield block if line and not language.strip(" \tabcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") else piece


def _standing(text: str) -> list[str]:
    """Objects and lists that stand in the text, outermost ones only; none where the text ends in the middle of one.

    A part of what was cut off is no answer, however well it fits.
    """
    found: list[str] = []
    start = _next(text, 0)
    for _ in range(_TRIES):
        if start < 0:
            break
        try:
            _, end = _DECODER.raw_decode(text, start)
        except json.JSONDecodeError as error:
            if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
                return []
            end = start + 1
        except (ValueError, RecursionError):
            return []
        else:
            found.append(text[start:end])
        start = _next(text, end)
    return found


def _next(text: str, start: int) -> int:
    found = [place for place in (text.find("{", start), text.find("[", start)) if place >= 0]
    return min(found, default=-1)
