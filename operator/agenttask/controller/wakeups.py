"""Which tasks wait for which missing thing, so that its appearance wakes them and nothing else does."""

from collections.abc import Iterable, Iterator
from itertools import islice

Key = tuple[str, ...]


class Wakeups:
    """Waiting tasks by what they miss, oldest first."""

    def __init__(self) -> None:
        self._waiting: dict[Key, dict[str, None]] = {}
        self._keys: dict[str, tuple[Key, ...]] = {}

    def wait(self, uid: str, keys: Iterable[Key]) -> None:
        """Note what a task waits for now; what it waited for before is forgotten."""
        keys = tuple(keys)
        if self._keys.get(uid, ()) == keys:
            return
        self.forget(uid)
        if keys:
            self._keys[uid] = keys
            for key in keys:
                self._waiting.setdefault(key, {})[uid] = None

    def forget(self, uid: str) -> None:
        """The task waits for nothing."""
        for key in self._keys.pop(uid, ()):
            waiting = self._waiting.get(key)
            if waiting is not None:
                waiting.pop(uid, None)
                if not waiting:
                    del self._waiting[key]

    def fire(self, key: Key, limit: int | None = None) -> Iterator[str]:
        """The tasks that waited for this, at most `limit`; those that still do come again at the end."""
        for uid in list(islice(self._waiting.get(key, ()), limit)):
            self.forget(uid)
            yield uid
