"""Secrets are covered, also where they arrive in pieces."""

from hypothesis import given
from hypothesis import strategies as st

from agenttask_steps.mask import Mask, MaskedStream


def in_pieces(mask: Mask, *pieces: str) -> list[str]:
    stream = MaskedStream(mask)
    return [*(stream.feed(piece) for piece in pieces), stream.rest()]


def test_a_value_in_two_pieces_is_covered():
    assert in_pieces(Mask(["s3cret"]), "the key is s3c", "ret!\n") == ["the key is ", "***!\n", ""]


def test_what_only_begins_as_a_value_is_shown_later():
    assert in_pieces(Mask(["s3cret"]), "s3c", "ond", " s3") == ["", "s3cond", " ", "s3"]


def test_the_longer_of_two_values_wins_wherever_the_pieces_end():
    mask = Mask(["abcd", "abcdef"])
    assert in_pieces(mask, "abcd", "ef") == ["", "***", ""]
    assert in_pieces(mask, "abcd", "xy") == ["", "***xy", ""]
    assert in_pieces(mask, "abcd") == ["", "***"]


def test_short_values_and_white_space_around_them_are_no_values():
    assert Mask(["abc", "  \n", "long-enough\n"]).values == ("long-enough",)
    assert Mask([]).cover("abc") == "abc"
    assert in_pieces(Mask(["abc"]), "abc") == ["abc", ""]


def test_the_lines_of_a_key_are_covered_one_by_one():
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nab=\n-----END KEY-----\n"
    assert Mask([key]).cover("it has MIIEvQIBADANBg and ab=") == "it has *** and ab="
    assert Mask([key]).cover(key) == "***\n"


WORDS = st.text(alphabet="abx", max_size=12)


@given(st.lists(st.text(alphabet="ab", min_size=4, max_size=7), max_size=4), st.lists(WORDS, max_size=12))
def test_pieces_are_covered_as_the_whole_is(values, pieces):
    mask = Mask(values)
    assert "".join(in_pieces(mask, *pieces)) == mask.cover("".join(pieces))
