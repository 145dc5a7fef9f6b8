"""The watch over one connection: asks `liveness` what is due, when something can be, and does it."""

import asyncio
from typing import TYPE_CHECKING

from agenttask.runner.http2.errors import PeerUnresponsive
from agenttask.runner.http2.liveness import Liveness, Verdict

if TYPE_CHECKING:
    from agenttask.runner.http2.connection import Http2Connection

_LAST_CHANCE_SECONDS = 0.1


class Watch:
    """One timer, as long as the connection lives."""

    def __init__(self, connection: "Http2Connection") -> None:
        self.live = Liveness(connection.settings, connection.loop.time())
        self._connection = connection
        self._loop = connection.loop
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look when something can be due; again after what changes that."""
        self.stop()
        self._timer = self._loop.call_at(self.live.look_again(self._loop.time(), busy=self._connection.busy), self._look)

    def stop(self) -> None:
        """The connection has ended."""
        if self._timer is not None:
            self._timer.cancel()

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._connection.ping()
        self.live.pinged(self._loop.time())
        self.start()

    def _look(self) -> None:
        connection = self._connection
        match self._verdict():
            case Verdict.DEAD:  # or our own loop stood still, and the answer waits in the socket: what is there is read first
                self._timer = self._loop.call_later(_LAST_CHANCE_SECONDS, self._last_look)
                return
            case Verdict.PING:
                self.ping()
            case Verdict.IDLE:
                connection.close()
            case Verdict.OLD:
                connection.drain()
        if connection.error is None:
            self.start()

    def _last_look(self) -> None:
        if self._verdict() is Verdict.DEAD:
            waited = self._connection.settings.ping_seconds
            self._connection.abort(PeerUnresponsive(f"the server gave no sign of life within {waited:g} s of being asked for one"))
        else:
            self.start()

    def _verdict(self) -> Verdict:
        return self.live.verdict(self._loop.time(), busy=self._connection.busy)
