"""Fault tests side by side: they wait for most of their time, and each has a namespace and a controller of its own.

A plugin of pytest. All tests of a session begin before the first is asked for, a few at a time, each in a thread with a loop of its
own; when its turn in the report comes, a test has perhaps ended already. A test that is marked `alone` waits until no other is left.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, Final

import pytest

AT_ONCE: Final = 4
ALONE: Final = "alone"


class SideBySide:
    """Begins the tests of `begun`: each with what it takes."""

    def __init__(self, begun: Iterable[tuple[pytest.Function, Mapping[str, Any]]]) -> None:
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fault-test")
        self._begun = {item.nodeid: self._pool.submit(_run, item.function, given) for item, given in begun}

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        """True: it was run."""
        mine = self._begun.get(pyfuncitem.nodeid)
        if mine is not None:
            mine.result()
            return True
        if pyfuncitem.get_closest_marker(ALONE) is not None:
            wait(self._begun.values())
        return None

    def stop(self) -> None:
        """Begin no further ones, and wait for the others."""
        self._pool.shutdown(cancel_futures=True)


def _run(test: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    asyncio.run(test(**arguments))
