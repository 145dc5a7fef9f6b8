"""Label and field selectors as the API server reads them."""

import re
from collections.abc import Callable
from typing import Any

from tests.fakes.apiserver_refusal import Refusal

Object = dict[str, Any]
Predicate = Callable[[Object], bool]
_TERM = re.compile(r"^(!?)\s*([\w./-]+)\s*(?:(==|=|!=)\s*([\w./-]*)|\s(in|notin)\s+\(([^)]*)\))?$")


def selects(label_selector: str, field_selector: str) -> Predicate:
    """Whether an object is selected; an empty selector selects all.

    Raises:
        Refusal: a selector does not parse.
    """
    terms = [_label_term(term) for term in _split(label_selector)] + [_field_term(term) for term in _split(field_selector)]
    return lambda found: all(term(found) for term in terms)


def _split(selector: str) -> list[str]:
    return [term.strip() for term in re.split(r",(?![^(]*\))", selector) if term.strip()]


def _label_term(text: str) -> Predicate:
    match = _TERM.match(text)
    if match is None:
        raise Refusal(400, "BadRequest", f"unable to parse requirement: {text!r}")
    absent, key, operator, value, word, values = match.groups()
    among = {each.strip() for each in values.split(",")} if values is not None else {value}

    def check(found: Object) -> bool:
        labels = found["metadata"].get("labels") or {}
        if operator is None and word is None:
            return (key in labels) != bool(absent)
        if operator == "!=" or word == "notin":
            return labels.get(key) not in among
        return key in labels and labels[key] in among

    return check


def _field_term(text: str) -> Predicate:
    match = re.match(r"^([\w.]+)(==|=|!=)(.*)$", text)
    if match is None:
        raise Refusal(400, "BadRequest", f"invalid field selector: {text!r}")
    path, operator, value = match.groups()

    def check(found: Object) -> bool:
        at: Any = found
        for part in path.split("."):
            at = at.get(part) if isinstance(at, dict) else None
        return (str("" if at is None else at) == value) != (operator == "!=")

    return check
