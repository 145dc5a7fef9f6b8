"""How many frames without content a peer may send: floods of PING, SETTINGS, RST_STREAM or empty DATA end here.

A bucket: it refills with time, and with what we send, because a server answers our requests and data with frames of its own.
"""

FOR_A_STREAM = 4
"""Fields, trailers, RST_STREAM and a WINDOW_UPDATE are what one request may cost its server."""
FOR_DATA = 2
"""A server answers a DATA frame with a WINDOW_UPDATE for the stream and one for the connection."""


class Allowance:
    """`spend` says whether one more frame is within bounds."""

    def __init__(self, capacity: int, per_second: float, now: float) -> None:
        self._capacity = float(capacity)
        self._per_second = per_second
        self._left = self._capacity
        self._filled = now

    def spend(self, now: float) -> bool:
        """Take one; False if none was left."""
        self.refund((now - self._filled) * self._per_second)
        self._filled = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def refund(self, frames: float) -> None:
        """What we sent entitles the peer to some."""
        self._left = min(self._capacity, self._left + frames)
