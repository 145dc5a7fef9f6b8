"""The name of an attempt's pod: the same whoever asks and whenever, so that creating it twice is one pod.

The uid is part of it: a task that is deleted and made anew under its name gets another pod.
"""

import hashlib
from typing import Final

MAX_POD_NAME: Final = 63
"""A pod's name is its hostname, a DNS label."""
_HASH_DIGITS: Final = 10


def pod_name(task_name: str, uid: str, attempt: int) -> str:
    """At most 63 characters of `[a-z0-9-]`."""
    digest = hashlib.sha256(uid.encode()).hexdigest()[:_HASH_DIGITS]
    ending = f"-{digest}-{attempt}"
    stem = task_name.replace(".", "-")[: MAX_POD_NAME - len(ending)].rstrip("-")
    return stem + ending
