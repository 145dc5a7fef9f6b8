"""Tokens to text piece by piece: joined, the pieces are the whole; what was handed out never changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask_models.pieces import TextPieces


def by_bytes(tokens) -> str:
    """A tokenizer of single bytes: every character beyond ASCII comes in parts."""
    return bytes(tokens).decode("utf-8", "replace")


def pieces_of(tokens, decode) -> list[str]:
    pieces = TextPieces(decode)
    return [*(pieces.add(token) for token in tokens), pieces.end()]


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\ufffd")))
def test_the_pieces_joined_are_the_text(text):
    pieces = pieces_of(text.encode(), by_bytes)
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


@given(st.lists(st.integers(0, 255), max_size=40))
def test_even_bytes_that_are_no_text_are_all_handed_out(tokens):
    assert "".join(pieces_of(tokens, by_bytes)).rstrip("\ufffd") == by_bytes(tokens).rstrip("\ufffd")


@pytest.mark.parametrize("words", [["a", "b"], ["", "a", "", "b"], []])
def test_a_space_that_depends_on_the_token_before_is_kept(words):
    pieces = pieces_of(range(len(words)), lambda tokens: " ".join(words[token] for token in tokens if words[token]))
    assert "".join(pieces) == " ".join(word for word in words if word)


def test_it_counts_its_tokens():
    pieces = TextPieces(by_bytes)
    pieces.add(65)
    pieces.add(0xC3)
    assert len(pieces) == 2
