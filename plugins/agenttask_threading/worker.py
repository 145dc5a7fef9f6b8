"""What runs in a process of the pool: one function after another, as they come through a socket.

This file is run as a script in a fresh interpreter (never a fork of the runner, whose memory holds credentials), and
imports the standard library only: a package's `__init__` would cost a quarter of a second. A call is a pickle of
`(function, args)` behind its length; the function arrives by its importable name. The answer is `(True, result)` or
`(False, exception, traceback)`.

torch cannot be imported here: every process that does holds 800 MB, and a model belongs into its engine.
"""

import ctypes
import os
import pickle
import signal
import socket
import struct
import sys
import traceback
from typing import Any

LENGTH = struct.Struct("!Q")
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4


def main(descriptor: int, parent: int) -> None:
    """Serve on the socket that was inherited; end with the runner, however that ends."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # no command of a task reaches into this process, whose answers the runner believes
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it had ended before the line above
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole foreground group; the runner decides
    sys.modules["torch"] = None  # type: ignore[assignment]  # the import system's own way to forbid one
    with socket.socket(fileno=descriptor) as connection:
        serve(connection)


def serve(connection: socket.socket) -> None:
    """Answer calls until the other end is closed."""
    with connection.makefile("rwb") as stream:
        while header := stream.read(LENGTH.size):
            answer = answer_to(stream.read(*LENGTH.unpack(header)))
            stream.write(LENGTH.pack(len(answer)))
            stream.write(answer)
            stream.flush()


def answer_to(call: bytes) -> bytes:
    """The pickled answer; whatever the function does, there is one."""
    try:
        function, args = pickle.loads(call)  # noqa: S301 - the runner's own
        answer: tuple[Any, ...] = (True, function(*args))
    except Exception as error:  # noqa: BLE001 - raised again by the caller
        return _failure(error)
    except BaseException as error:  # noqa: BLE001 - `sys.exit()` in a function ends neither this process nor the runner
        return _failure(RuntimeError(f"the function raised {type(error).__name__}: {error}"))
    try:
        return pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - a result's own `__reduce__` may raise anything
        return _failure(TypeError(f"its result cannot be sent from another process: {error}"))


def _failure(error: Exception) -> bytes:
    """The exception itself where it survives pickling, else one with its words."""
    told = "".join(traceback.format_exception(error))
    try:
        raw = pickle.dumps((False, error, told), protocol=pickle.HIGHEST_PROTOCOL)
        pickle.loads(raw)  # noqa: S301 - just made; an exception with other arguments than its message fails here
    except Exception:  # noqa: BLE001 - as above
        return pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}"), told), protocol=pickle.HIGHEST_PROTOCOL)
    return raw


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
