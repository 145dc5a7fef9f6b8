"""The keywords of JSON Schema that hold regular expressions, with a bound on the time that these take.

Python's `re` may take for ever over thirty characters (`^(a|aa)+$`), and nothing else runs meanwhile: no time-out, no SIGTERM,
no other task. A pattern is the user's and the text a model's, so both are hostile; `regex` reads the same patterns and stops.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import jsonschema

PATTERN_SECONDS: Final = 1.0
"""For all patterns of one value together."""


class PatternTooSlow(Exception):
    """The time is over; the message names the pattern."""


class Patterns:
    """The keywords for one value."""

    def __init__(self, seconds: float = PATTERN_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    @property
    def keywords(self) -> dict[str, Callable[..., Any]]:
        """By their names, as `jsonschema.validators.extend` takes them."""
        return {"pattern": self._pattern, "patternProperties": self._pattern_properties, "additionalProperties": self._additional}

    def _pattern(self, validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator["jsonschema.ValidationError"]:
        import jsonschema

        if validator.is_type(value, "string") and not self._matches(pattern, value):
            yield jsonschema.ValidationError(f"{value!r} does not match {pattern!r}")

    def _pattern_properties(
        self, validator: Any, patterns: Mapping[str, Any], value: Any, _schema: Any
    ) -> Iterator["jsonschema.ValidationError"]:
        if validator.is_type(value, "object"):
            for pattern, schema in patterns.items():
                for name, item in value.items():
                    if self._matches(pattern, name):
                        yield from validator.descend(item, schema, path=name, schema_path=pattern)

    def _additional(self, validator: Any, allowed: Any, value: Any, schema: Mapping[str, Any]) -> Iterator["jsonschema.ValidationError"]:
        import jsonschema

        if not validator.is_type(value, "object"):
            return
        known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        extras = [name for name in value if name not in known and not any(self._matches(pattern, name) for pattern in patterns)]
        if allowed is False and extras:
            yield jsonschema.ValidationError(f"these properties are not allowed: {', '.join(map(repr, sorted(extras)))}")
        elif allowed is not False:
            for name in extras:
                yield from validator.descend(value[name], allowed, path=name)

    def _matches(self, pattern: str, text: str) -> bool:
        import regex  # type: ignore[import-untyped]  # it has no types

        left = self._end - self._clock()
        try:
            if left > 0:
                return regex.search(pattern, text, timeout=left) is not None
        except TimeoutError:
            pass
        raise PatternTooSlow(pattern)
