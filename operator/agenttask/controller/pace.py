"""A bound on the writes of waiting reasons: 10,000 waiting tasks must not become a write storm."""

import heapq


class Pace:
    """Gives each key a turn, at most `per_second` of them; a turn is kept until it is taken or given back."""

    def __init__(self, per_second: float) -> None:
        self._interval = 1.0 / per_second
        self._next = 0.0
        self._turns: dict[str, float] = {}
        self._given_back: list[float] = []
        """A heap: ten thousand tasks that have all moved on must not keep the next one waiting for half an hour."""

    def wait(self, key: str, now: float) -> float:
        """Seconds until this key's turn; 0 takes it."""
        turn = self._turns.pop(key, None)
        if turn is None:
            turn = self._turn(now)
        if turn <= now:
            return 0.0
        self._turns[key] = turn
        return turn - now

    def forget(self, key: str) -> None:
        """The key needs no turn any more; another one may have it."""
        turn = self._turns.pop(key, None)
        if turn is not None:
            heapq.heappush(self._given_back, turn)

    def _turn(self, now: float) -> float:
        """The first turn that is free; one given back too late is lost."""
        while self._given_back:
            turn = heapq.heappop(self._given_back)
            if turn > now:
                return turn
        turn = max(self._next, now)
        self._next = turn + self._interval
        return turn
