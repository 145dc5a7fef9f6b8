"""Unix time by the API server's clock, as its answers tell it.

Deadlines are counted from times that the API server stamped, so a replica on a node whose clock is off would end tasks
too early or too late. Each answer has a `Date` in whole seconds (RFC 9110, 6.6.1): at some moment between the request and
the answer that clock stood between Date and Date + 1 s. Our own clock is corrected by as little as all that needs
(Cristian, "Probabilistic clock synchronization", 1989): not at all as long as the two agree.
"""

import logging
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final

_TOLD_SECONDS: Final = 5.0
"""A difference that is worth a line in the log; less is usual between machines."""
_TELL_SECONDS: Final = 60.0
"""Between two lines: of two API servers whose clocks differ now the one answers, now the other."""
logger: Final = logging.getLogger(__name__)


class ServerClock:
    """A clock to be called, in Unix seconds; `own` is the machine's."""

    def __init__(self, own: Callable[[], float] = time.time) -> None:
        self.own = own
        self._ahead = 0.0
        self._told = 0.0
        self._told_at = float("-inf")
        self._last = ("", 0.0)

    def __call__(self) -> float:
        """Unix seconds."""
        return self.own() + self._ahead

    def heard(self, date: str | None, *, asked: float, answered: float) -> None:
        """An answer with this `Date` came to a request; both times are by our own clock.

        One without a date that can be read tells nothing, nor does one whose request took longer than our clock says
        (it was set back meanwhile).
        """
        stood = self._read(date)
        if stood is None or answered < asked:
            return
        least, most = stood - answered, stood + 1.0 - asked
        self._ahead = min(max(self._ahead, least), most)
        if abs(self._ahead - self._told) > _TOLD_SECONDS and abs(answered - self._told_at) >= _TELL_SECONDS:
            self._tell(answered)

    def _tell(self, now: float) -> None:
        self._told, self._told_at = self._ahead, now
        if abs(self._ahead) <= _TOLD_SECONDS:
            logger.info("this machine's clock agrees with the API server's again")
            return
        logger.warning(
            "this machine's clock is about %.0f s %s the API server's, whose time is taken for deadlines; keep clocks by NTP",
            abs(self._ahead),
            "behind" if self._ahead > 0 else "ahead of",
        )

    def _read(self, date: str | None) -> float | None:
        """The same text comes with every answer of a second."""
        if not date:
            return None
        if date != self._last[0]:
            try:
                self._last = (date, parsedate_to_datetime(date).timestamp())
            except (ValueError, OverflowError):
                return None
        return self._last[1]
