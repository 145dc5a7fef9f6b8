"""Fields to bytes as `hpack` does it, but what every request repeats is not searched for in its tables again.

Most fields of a request are those of the one before, and one byte each: where a field stands in the table follows from how
many were added after it. Measured: a sixth of the work of a call over HTTP/2 was this search.
"""

from collections.abc import Iterable

from hpack import Encoder, HeaderTuple
from hpack.table import HeaderTable

from agenttask.runner.http2.fields import Field

_FIRST_DYNAMIC = HeaderTable.STATIC_TABLE_LENGTH + 1
_INDEXED = tuple(bytes([0x80 | index]) for index in range(0x7F))
"""Those indices that are one byte."""
_MOST_PLACES = 256
_MOST_SECRETS = 8


class FieldEncoder(Encoder):
    """The encoder of one connection."""

    def __init__(self) -> None:
        super().__init__()
        self._added = 0
        """Fields that ever entered the table."""
        self._places: dict[Field, int] = {}
        """`_added` as a field entered it; below 0 for one of the protocol's own table, whose index it is then."""
        self._secrets: dict[Field, bytes] = {}
        """Their bytes: they enter no table, so that nothing changes them."""

    def encode(self, headers: Iterable[Field], huffman: bool = True) -> bytes:  # type: ignore[override]  # noqa: FBT001, FBT002  # `h2` gives bytes
        """The block of one request."""
        block = []
        if self.header_table.resized:
            block.append(self._encode_table_size_change())
            self.header_table.resized = False
        for field in headers:
            if isinstance(field, HeaderTuple) and not field.indexable:
                block.append(self._secrets.get(field) or self._new_secret(field, huffman=huffman))
            else:
                block.append(self._at_its_place(field) or self._new(field, huffman=huffman))
        return b"".join(block)

    def _at_its_place(self, field: Field) -> bytes | None:
        """The index of a field that is in a table, where it is remembered and one byte."""
        place = self._places.get(field)
        if place is None:
            return None
        if place < 0:
            return _INDEXED[-place]
        younger = self._added - place
        if younger >= len(self.header_table.dynamic_entries) or _FIRST_DYNAMIC + younger >= len(_INDEXED):
            return None
        return _INDEXED[_FIRST_DYNAMIC + younger]

    def _new(self, field: Field, *, huffman: bool) -> bytes:
        if len(self._places) >= _MOST_PLACES:
            self._places.clear()
        found = self.header_table.search(*field)
        encoded = self.add(field, sensitive=False, huffman=huffman)
        if found is not None and found[2] is not None:
            index = found[0]
            self._places[field] = -index if index < _FIRST_DYNAMIC else self._added - (index - _FIRST_DYNAMIC)
        elif self.header_table.dynamic_entries:  # a field that is larger than the table empties it and is not in it
            self._added += 1
            self._places[field] = self._added
        return encoded

    def _new_secret(self, field: Field, *, huffman: bool) -> bytes:
        encoded = self.add(field, sensitive=True, huffman=huffman)
        found = self.header_table.search(*field)
        if found is None or found[0] < _FIRST_DYNAMIC:  # its name is no index that moves
            if len(self._secrets) >= _MOST_SECRETS:
                self._secrets.clear()
            self._secrets[field] = encoded
        return encoded
