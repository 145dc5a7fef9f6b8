"""The fork server, a program: controllers for tests, by forks of a process that has imported all of one already.

    python -m tests.faults.fork_server SOCKET

A request is one JSON line (`arguments`, `environ`, `log`); the answer is the child's pid, and its exit status once it has ended.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final, NoReturn

from agenttask.controller.main import main
from agenttask.plugin.registry import ENTRY_POINT_GROUP
from tests.faults.launching import die_with_us

_LONGEST_REQUEST: Final = 1 << 20


def serve(where: str) -> NoReturn:
    """Fork for whoever asks, until killed."""
    for plugin in entry_points(group=ENTRY_POINT_GROUP):
        plugin.load()  # imported for all of them; each chooses and makes its own
    waking, woken = socket.socketpair()
    woken.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken.fileno())
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{where}.new")
    listener.listen(64)
    Path(f"{where}.new").rename(where)
    children: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([listener, waking], [], [])
        if waking in ready:
            waking.recv(4096)
            _reap(children)
        if listener in ready:
            asking, _ = listener.accept()
            with asking.makefile("rb") as lines:
                request = json.loads(lines.readline(_LONGEST_REQUEST))
            pid = os.fork()
            if pid == 0:
                _become(request)
            children[pid] = asking
            _tell(asking, pid)


def _reap(children: dict[int, socket.socket]) -> None:
    """Tell of every child that has ended."""
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with children.pop(pid) as asking:
            _tell(asking, os.waitstatus_to_exitcode(status))


def _tell(asking: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # nobody waits for it any more
        asking.sendall(f"{number}\n".encode())


def _become(request: dict[str, Any]) -> NoReturn:
    """The child: a controller with nothing of the server but its modules."""
    die_with_us()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, 256)
    os.environ.clear()
    os.environ.update(request["environ"])
    code = 1
    try:
        code = main(request["arguments"])
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:  # noqa: BLE001 - as the interpreter would
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
