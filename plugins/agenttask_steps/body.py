"""What a response's body says: text in the charset that it names, and its value where it is JSON."""

import codecs
from typing import Any

import msgspec

from agenttask.api.errors import StepFailed

_NO_CHARSETS = frozenset({"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "utf-7"})
"""Python calls them encodings of text; the first two take quadratic time."""
_REMEDY = "give `path` to write the bytes to a file"


def text_of(raw: bytes, charset: str | None) -> str:
    """The text; UTF-8 where no charset is named, and a byte order mark is none of it.

    Raises:
        StepFailed: it is no text, or in a charset that nobody knows.
    """
    try:
        codec = codecs.lookup(charset or "utf-8")
        if codec.name in _NO_CHARSETS:
            raise LookupError
        text = raw.decode(codec.name)
    except LookupError:
        raise StepFailed(f"the body is in the charset {charset!r}, which is not known; {_REMEDY}") from None
    except UnicodeDecodeError as error:
        raise StepFailed(f"the body is no {codec.name} text: byte {raw[error.start]:#04x} at offset {error.start}; {_REMEDY}") from error
    except ValueError as error:
        raise StepFailed(f"the body is no {codec.name} text: {error}; {_REMEDY}") from error
    return text.removeprefix("\ufeff")


def value_of(text: str, content_type: str) -> Any:
    """The value of JSON, by the type that the server names; None for any other, and for an empty body.

    Raises:
        StepFailed: it is called JSON, and is none.
    """
    if not (content_type == "application/json" or content_type.endswith("+json")) or not text.strip():
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
        raise StepFailed(f"the body is called {content_type}, and is no JSON: {error}") from error
