"""Which headers a user may set on requests of ours, whoever makes them."""

from typing import Final

OF_THE_CONNECTION: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "keep-alive"}
)
"""In lower case. With them a request could be read as two."""
