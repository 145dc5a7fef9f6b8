"""The tasks that have their turn, counted by everything that bounds how many there may be."""

from collections import Counter
from collections.abc import Collection, Hashable, Iterator

from msgspec import Struct

from agenttask.domain.queueing import Wish


class Holding(Struct, frozen=True, kw_only=True):
    """One task's turn: what it wished for, the device class that it got, and whether that is one of kind `remote`."""

    wish: Wish
    class_: str
    remote: bool = False

    @property
    def models(self) -> tuple[str, ...]:
        """The AgentModels that it calls there."""
        return self.wish.remote_models if self.remote else self.wish.models


class Holdings:
    """Turns by the uid of their task."""

    def __init__(self) -> None:
        self._held: dict[str, Holding] = {}
        self._counts: Counter[Hashable] = Counter()
        self._callers: dict[tuple[str, str], dict[str, None]] = {}
        """The uids by namespace and AgentModel, in the order of their turns."""

    def __len__(self) -> int:
        return len(self._held)

    def get(self, uid: str) -> Holding | None:
        """The task's turn, if it has one."""
        return self._held.get(uid)

    def add(self, uid: str, holding: Holding) -> None:
        """The task has its turn; another one that it had is over."""
        self.remove(uid)
        self._held[uid] = holding
        self._counts.update(_keys(holding))
        for model in holding.models:
            self._callers.setdefault((holding.wish.namespace, model), {})[uid] = None

    def remove(self, uid: str) -> Holding | None:
        """The turn is over."""
        holding = self._held.pop(uid, None)
        if holding is not None:
            for key in _keys(holding):
                self._counts[key] -= 1
                if not self._counts[key]:
                    del self._counts[key]
            for model in holding.models:
                uids = self._callers[holding.wish.namespace, model]
                del uids[uid]
                if not uids:
                    del self._callers[holding.wish.namespace, model]
        return holding

    def of_namespace(self, namespace: str) -> int:
        """How many tasks of a namespace have their turn."""
        return self._counts["namespace", namespace]

    def of_queue(self, namespace: str, queue: str) -> int:
        """Of a queue."""
        return self._counts["queue", namespace, queue]

    def of_class(self, namespace: str, queue: str, class_: str) -> int:
        """Of a queue, on one device class."""
        return self._counts["class", namespace, queue, class_]

    def of_model(self, namespace: str, model: str) -> int:
        """That call an AgentModel."""
        return len(self.callers(namespace, model))

    def callers(self, namespace: str, model: str) -> Collection[str]:
        """The uids of those that name an AgentModel, or have it in the place of one that they name; fallbacks are not counted."""
        return self._callers.get((namespace, model), {})


def _keys(holding: Holding) -> Iterator[Hashable]:
    wish = holding.wish
    yield "namespace", wish.namespace
    yield "queue", wish.namespace, wish.queue
    yield "class", wish.namespace, wish.queue, holding.class_
