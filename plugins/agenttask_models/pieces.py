"""Tokens to text piece by piece: what is handed out never changes when more tokens come.

A token may be part of a character, and its text may depend on the token before it. So the text of the last few tokens is
decoded with and without the new ones, and only a longer text without a broken character at its end is handed out.
"""

from collections.abc import Callable, Sequence

_BROKEN = "\ufffd"


class TextPieces:
    """The text of a growing list of tokens."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._settled = 0
        """Tokens before this one are no longer looked at."""
        self._told = 0
        """Tokens before this one have been handed out."""

    def __len__(self) -> int:
        return len(self._tokens)

    def add(self, token: int) -> str:
        """The text that `token` completes; often one word, sometimes nothing."""
        self._tokens.append(token)
        return self._new(whole=False)

    def end(self) -> str:
        """What was held back."""
        return self._new(whole=True)

    def _new(self, *, whole: bool) -> str:
        before = self._decode(self._tokens[self._settled : self._told])
        after = self._decode(self._tokens[self._settled :])
        if not whole and (after.endswith(_BROKEN) or len(after) <= len(before)):
            return ""
        self._settled, self._told = self._told, len(self._tokens)
        return after[len(before) :]
