"""Answers that go wrong on purpose: refused, lost after the write, late, or told to come back later."""

import re

from msgspec import Struct

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class Fault(Struct, kw_only=True):
    """One planned fault; it is used up after `times` requests."""

    method: str
    path: re.Pattern[str]
    status: int
    """0: the connection breaks without an answer."""
    times: int
    reason: str
    message: str
    retry_after: float | None
    after_commit: bool
    delay: float


class Faults:
    """The faults that are still to come, oldest first."""

    def __init__(self) -> None:
        self._planned: list[Fault] = []

    def plan(self, fault: Fault) -> None:
        self._planned.append(fault)

    def clear(self) -> None:
        self._planned.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """The fault for this request, if one is planned."""
        for fault in self._planned:
            if fault.method in ("*", method) and fault.path.search(path):
                fault.times -= 1
                if fault.times <= 0:
                    self._planned.remove(fault)
                return fault
        return None
