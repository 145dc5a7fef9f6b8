"""Credentials leave the environment before anything else of the runner starts, and its memory is closed to its children.

Popping a variable keeps it from children that start later, but `/proc/<pid>/environ` goes on showing the block that the
process was started with. `PR_SET_DUMPABLE 0` gives that file (and the memory) to root: a child of the same user gets
EACCES. A child that runs as root can read anything; task pods never do.
"""

import ctypes
import os
from collections.abc import Mapping, MutableMapping

from msgspec import Struct

from agenttask.api.constants import ENV_CREDENTIAL_PREFIX, ENV_GATEWAY_TOKEN, ENV_SECRET_PREFIX, ENV_STORE_PREFIX

_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36


class Credentials(Struct, frozen=True, kw_only=True):
    """What was taken out of the environment, by the variable's name."""

    values: Mapping[str, str]
    gateway_token: str | None = None
    """Of this attempt; no step can name it."""
    store: Mapping[str, str] = {}
    """What the object store's Secret has, by its keys; no step can name it either."""

    def __repr__(self) -> str:
        """The names only: a credential never reaches a log or a traceback."""
        return f"Credentials({', '.join(sorted(self.values))})"


def take_credentials(environ: MutableMapping[str, str]) -> Credentials:
    """Remove every credential and secret from `environ`, and the attempt's token, and hand them over."""
    names = [name for name in environ if name.startswith((ENV_CREDENTIAL_PREFIX, ENV_SECRET_PREFIX))]
    keys = [name for name in environ if name.startswith(ENV_STORE_PREFIX)]
    return Credentials(
        values={name: environ.pop(name) for name in names},
        gateway_token=environ.pop(ENV_GATEWAY_TOKEN, None),
        store={name.removeprefix(ENV_STORE_PREFIX): environ.pop(name) for name in keys},
    )


def close_memory() -> None:
    """Make this process non-dumpable: others of the same user can read neither its memory nor its first environment.

    Raises:
        OSError: the kernel refuses; credentials would be open to every command of the task.
    """
    _prctl(_PR_SET_DUMPABLE, 0)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that `kill_descendants` finds them.

    Raises:
        OSError: the kernel refuses.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}, {value}): {os.strerror(code)}")
