"""When to ask a peer for a sign of life, when to give it up, and when to leave a connection for its age or idleness. Pure: time is told."""

from enum import Enum

from agenttask.runner.http2.settings import Http2Settings


class Verdict(Enum):
    """What is due."""

    NOTHING = "nothing"
    PING = "ping"
    DEAD = "dead"
    IDLE = "idle"
    OLD = "old"


class Liveness:
    """The clock of one connection."""

    def __init__(self, settings: Http2Settings, now: float) -> None:
        self._settings = settings
        self._opened = now
        self._received = now
        self._idle_since = now
        self._pinged: float | None = None
        self.suspect = False

    def received(self, now: float) -> None:
        """The peer sent something, whatever it was."""
        self._received = now
        self._pinged = None
        self.suspect = False

    def idle(self, now: float) -> None:
        """The last stream ended."""
        self._idle_since = now

    def given_up(self, sent: float, now: float) -> bool:
        """A request sent then was abandoned unanswered: is a PING due at once, and the connection to be avoided until it is answered?"""
        quiet = now - max(sent, self._received)
        if quiet < self._settings.suspect_seconds:
            return False
        self.suspect = True
        return self._pinged is None

    def pinged(self, now: float) -> None:
        """A PING is on its way."""
        self._pinged = now

    def verdict(self, now: float, *, busy: bool) -> Verdict:
        """What is due now."""
        settings = self._settings
        if self._pinged is not None:
            if now - self._pinged >= settings.ping_seconds:
                return Verdict.DEAD
        elif busy and now - self._received >= settings.ping_after_seconds:
            return Verdict.PING
        if not busy and now - self._idle_since >= settings.idle_seconds:
            return Verdict.IDLE
        if now - self._opened >= settings.max_age_seconds:
            return Verdict.OLD
        return Verdict.NOTHING

    def look_again(self, now: float, *, busy: bool) -> float:
        """When to ask for the next verdict: nothing can be due before."""
        settings = self._settings
        times = [now + settings.ping_after_seconds, self._opened + settings.max_age_seconds]
        if self._pinged is not None:
            times.append(self._pinged + settings.ping_seconds)
        elif busy:
            times.append(self._received + settings.ping_after_seconds)
        if not busy:
            times.append(self._idle_since + settings.idle_seconds)
        return min(time for time in times if time > now)
