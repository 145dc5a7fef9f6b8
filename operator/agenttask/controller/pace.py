"""A bound on the writes of waiting reasons: 10,000 waiting tasks must not become a write storm."""


class Pace:
    """Gives each key a turn, at most `per_second` of them; a turn once given is kept until it is taken."""

    def __init__(self, per_second: float) -> None:
        self._interval = 1.0 / per_second
        self._next = 0.0
        self._turns: dict[str, float] = {}

    def wait(self, key: str, now: float) -> float:
        """Seconds until this key's turn; 0 takes it."""
        turn = self._turns.get(key)
        if turn is None:
            turn = max(self._next, now)
            self._next = turn + self._interval
        if turn <= now:
            self._turns.pop(key, None)
            return 0.0
        self._turns[key] = turn
        return turn - now

    def forget(self, key: str) -> None:
        """The key needs no turn any more."""
        self._turns.pop(key, None)
