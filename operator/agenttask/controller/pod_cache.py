"""The pods of tasks: the reflectors' view, and what our own POST answered until the watch shows it (an expectation).

A pod that is deleted stays as it was last seen while its task is not final: its last words are the task's result.
"""

from collections.abc import Callable
from typing import Final

from agenttask.controller.inventory import Inventory
from agenttask.controller.wire import Pod, owner_of, project
from agenttask.domain.observation import SeenPod

EXPECTED_SECONDS: Final = 30.0
"""A pod that we created and that the watch does not show after this is asked for."""


class PodCache:
    """Pods by their task's uid and their name. `is_open` tells whether a task still waits for its pod; `wake` its key."""

    def __init__(self, *, inventory: Inventory, is_open: Callable[[str], bool], wake: Callable[[str], None]) -> None:
        self._pods: dict[tuple[str, str], Pod] = {}
        self._gone: dict[str, dict[str, Pod]] = {}
        """By task and name."""
        self._expected: dict[tuple[str, str], float] = {}
        self._inventory, self._is_open, self._wake = inventory, is_open, wake

    def on_change(self, old: Pod | None, new: Pod | None) -> None:
        """A reflector saw a pod appear, change or disappear."""
        pod = new if new is not None else old
        if pod is None:
            return
        owner = owner_of(pod)
        if old is not None and owner_of(old) != owner:
            self._taken(old)
        if not owner:
            return
        key = (owner, pod.metadata.name)
        self._expected.pop(key, None)
        if new is not None:
            self._pods[key] = new
        else:
            self._pods.pop(key, None)
            if self._is_open(owner):
                self._gone.setdefault(owner, {})[pod.metadata.name] = pod
        self._inventory.pod_changed(pod, gone=new is None)
        self._wake(owner)

    def _taken(self, old: Pod) -> None:
        """Somebody made the pod another's: for its task it is gone."""
        owner, name = owner_of(old), old.metadata.name
        if owner and self._pods.pop((owner, name), None) is not None:
            self._gone.setdefault(owner, {})[name] = old
            self._wake(owner)

    def seed(self, pod: Pod, now: float) -> None:
        """A pod that the API server answered with; the watch may have been faster, and then it knows better."""
        key = (owner_of(pod), pod.metadata.name)
        if key not in self._pods or key in self._expected:
            self._pods[key] = pod
            self._expected[key] = now
            self._inventory.pod_changed(pod, gone=False)

    def unseen(self, owner: str, name: str) -> bool:
        """Whether the pod is known from an answer alone, because the watch does not show it (yet)."""
        return (owner, name) in self._expected

    def overdue(self, owner: str, name: str, now: float) -> bool:
        """Whether a pod was created a while ago and the watch has not shown it."""
        since = self._expected.get((owner, name))
        return since is not None and now - since > EXPECTED_SECONDS

    def lose(self, owner: str, name: str) -> None:
        """The API server does not know a pod that we expected."""
        self._expected.pop((owner, name), None)
        pod = self._pods.pop((owner, name), None)
        if pod is not None:
            self._gone.setdefault(owner, {})[name] = pod
            self._inventory.pod_changed(pod, gone=True)

    def get(self, owner: str, name: str) -> SeenPod | None:
        """The task's pod of this name, or how it was last seen."""
        pod = self._pods.get((owner, name))
        if pod is not None:
            return project(pod)
        gone = self._gone.get(owner, {}).get(name)
        return project(gone, gone=True) if gone is not None else None

    def forget(self, owner: str, name: str) -> None:
        """The attempt is over: nobody will ask for the last words of its pod."""
        left = self._gone.get(owner, {})
        left.pop(name, None)
        if not left:
            self._gone.pop(owner, None)

    def forget_task(self, owner: str) -> None:
        """The task is final or gone. A pod that no watch has shown may never be shown: it came and went while a watch was away."""
        for name in [name for task, name in self._expected if task == owner]:
            self.lose(owner, name)
        self._gone.pop(owner, None)
