"""Stop texts: however an answer is cut into pieces, what is told is the answer before the first stop text."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttask_models.stops import StopTexts


def told(pieces, stops) -> tuple[str, bool]:
    watching = StopTexts(stops)
    return "".join([*(watching.add(piece) for piece in pieces), watching.end()]), watching.met


@settings(deadline=None)  # a busy machine is no failure
@given(st.text("ab ", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.lists(st.integers(0, 30), max_size=5))
def test_the_cuts_do_not_matter(text, stops, cuts):
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(edges)]
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    whole, met = told(pieces, stops)
    assert met == bool(ends)
    if not ends:
        assert whole == text
    else:  # where one stop text is part of another, a piece may show the longer one only later
        assert text.startswith(whole)
        assert len(whole) <= min(text.find(stop) + len(stop) for stop in stops if stop in text)


@pytest.mark.parametrize(
    ("pieces", "stops", "answer"),
    [
        (["Hello", " world"], [], "Hello world"),
        (["a<", "end", ">b"], ["<end>"], "a"),
        (["a<", "enough"], ["<end>"], "a<enough"),
        (["x"], ["x"], ""),
        (["abc"], [""], "abc"),
    ],
    ids=["none", "in parts", "only its beginning", "at once", "empty"],
)
def test_what_is_told(pieces, stops, answer):
    assert told(pieces, stops)[0] == answer


def test_nothing_is_held_back_without_need():
    watching = StopTexts(["\n\n"])
    assert watching.add("one line") == "one line"
    assert watching.add("\n") == ""
    assert watching.add("next") == "\nnext"
