"""An output in an object store: which place is an attempt's own, as controller and runner both work it out.

The place has namespace, uid and attempt in it, so no attempt meets another's object, and a report can name its own only.
"""

from typing import Final

MAX_STORE_URL: Final = 384
"""Characters of the installation's `outputStore.url`."""
MAX_OBJECT_URL: Final = 1024
"""Of a whole address: the longest names of a task come to some 400 characters beside the store's URL."""
MAX_OBJECT_BYTES: Final = 64 * 1024 * 1024
"""The default of `outputStore.maxBytes`."""


def output_key(*, namespace: str, name: str, uid: str, attempt: int) -> str:
    """Where the output of this attempt lies, below the store's URL."""
    return f"{namespace}/{name}/{uid}/attempt-{attempt}/output"


def object_url(store: str, key: str) -> str:
    """The whole address, as the stores' own tools take it."""
    return f"{store}/{key}"
