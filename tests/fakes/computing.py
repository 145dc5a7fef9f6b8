"""Functions that other processes find by their names: they compute, fail, sleep, and end the process they are in."""

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from agenttask.api.errors import InvalidTask


def square(number: int) -> int:
    return number * number


def fail() -> None:
    raise KeyError("mine")


def fail_typed() -> None:
    raise InvalidTask("spec.steps[0]", "no good")


class Unsendable(Exception):
    """Its arguments are not its constructor's."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


def fail_unsendable() -> None:
    raise Unsendable("one", "two")


def leave() -> None:
    sys.exit(3)


def lock() -> Any:
    return threading.Lock()


def size(text: str) -> int:
    return len(text)


def process() -> int:
    return os.getpid()


def environment() -> dict[str, str]:
    return dict(os.environ)


def import_torch() -> None:
    import torch  # noqa: F401


def modules() -> list[str]:
    return sorted(sys.modules)


def dumpable() -> bool:
    """Whether the user's other processes may read this one's memory."""
    return ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) != 0


def say_and_sleep(path: str, seconds: float) -> str:
    """Write the process's number, then sleep."""
    Path(path).write_text(str(os.getpid()))
    time.sleep(seconds)
    return "slept"


def say_and_wait(path: str, go: str) -> str:
    """Write the process's number, then wait until there is a file `go`."""
    Path(path).write_text(str(os.getpid()))
    while not Path(go).exists():
        time.sleep(0.005)
    return "waited"


def die_once(path: str) -> str:
    """Is killed the first time, and answers the second."""
    if not Path(path).exists():
        Path(path).write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def die(path: str) -> None:
    """Is killed each time, and counts."""
    with Path(path).open("a") as file:
        file.write("x")
    os.kill(os.getpid(), signal.SIGKILL)


def leave_at_once(code: int) -> None:
    """No answer, no clean-up: the process is gone; a negative code is a signal."""
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code)


def generate_answer(number: int) -> tuple[int, int]:
    return number, os.getpid()


def look_up(number: int) -> tuple[int, int]:
    return number, os.getpid()
