"""Threads that compute stand behind the event loop for the processor, as they do for Python's lock.

On Linux each thread has a nice value of its own (sched(7), "the nice value"; POSIX means the process). Ten threads at the loop's own
value on two processors keep its turn waiting for one, however quickly it gets the lock.
"""

import os
import threading
from typing import Final

NICER: Final = 5
"""A third of the loop's weight where both want the same processor; nothing where one is free."""


def after_the_loop() -> None:
    """Make the calling thread nicer than it is; a platform that knows no threads in this is left alone."""
    try:
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICER)
    except OSError:
        return
