"""Vectors from words alone: each word has a place and a sign by its hash, so texts that share words are near.

Deterministic on every machine and good enough to test retrieval without weights; it knows nothing of meaning.
"""

import hashlib
import math
import re

_WORD = re.compile(r"\w+")


def word_vector(text: str, dimensions: int) -> tuple[float, ...]:
    """A unit vector; a text without words gets the first axis."""
    vector = [0.0] * dimensions
    for word in _WORD.findall(text.lower()):
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        vector[int.from_bytes(digest[:4], "big") % dimensions] += 1.0 if digest[4] & 1 else -1.0
    length = math.sqrt(sum(value * value for value in vector))
    if not length:
        return (1.0, *[0.0] * (dimensions - 1))
    return tuple(value / length for value in vector)
