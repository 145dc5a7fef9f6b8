"""Exponential back-off with jitter: the one formula for the work queue and the reflectors.

Equal jitter (half fixed, half random): many keys that failed together spread out, and none comes back at once.
"""

from collections.abc import Callable

from msgspec import Struct


class Backoff(Struct, frozen=True, kw_only=True):
    """How long to wait after the n-th failure in a row; `initial` and `maximum` in seconds."""

    initial: float
    maximum: float
    factor: float = 2.0

    def delay(self, failures: int, random: Callable[[], float]) -> float:
        """Seconds to wait after `failures` (1 is the first) failures in a row; `random` gives a number in [0, 1)."""
        # The exponent is capped because factor ** 1100 overflows a float.
        ceiling = min(self.maximum, self.initial * self.factor ** min(max(failures, 1) - 1, 64))
        return ceiling * (0.5 + random() / 2)
