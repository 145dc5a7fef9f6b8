"""The pods of tasks: the reflectors' view, and what our own POST answered until the watch shows it (an expectation).

A pod that is deleted stays as it was last seen while its task is not final: its last words are the task's result.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final

from msgspec import Struct, structs

from agenttask.api.constants import CONTAINER, LABEL_QUEUE
from agenttask.api.queue import DEFAULT_QUEUE
from agenttask.controller.inventory import Inventory
from agenttask.controller.projection import models_of, owner_of, project
from agenttask.controller.wire import Pod
from agenttask.domain.observation import SeenPod

EXPECTED_SECONDS: Final = 30.0
"""A pod that we created and that the watch does not show after this is asked for."""
_NONE: Final[Mapping[str, Pod]] = {}


class Living(Struct, frozen=True, kw_only=True):
    """A pod that may run; `expected_since` when it was created, while no watch has shown it (Unix seconds)."""

    pod: SeenPod
    namespace: str
    queue: str
    models: tuple[str, ...]
    expected_since: float | None


class PodCache:
    """Pods by their task's uid and their name.

    `is_open` tells whether a task still waits for its pod, `wake` has one looked at, `freed` is told of one with a pod that counts for no
    quota any more.
    """

    def __init__(
        self,
        *,
        inventory: Inventory,
        is_open: Callable[[str], bool],
        wake: Callable[[str], None],
        freed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._pods: dict[str, dict[str, Pod]] = {}
        """By task and name."""
        self._gone: dict[str, dict[str, Pod]] = {}
        """The same of those that went."""
        self._expected: dict[tuple[str, str], float] = {}
        self._settled = False
        self._unknown: Collection[str] = ()
        """Namespaces whose tasks are not known yet, once those of others are."""
        self._inventory, self._is_open, self._wake, self._freed = inventory, is_open, wake, freed

    def settle(self, unknown: Collection[str] = ()) -> None:
        """All tasks are known, but for those of `unknown` namespaces: elsewhere, pods that have ended are kept for those that are open."""
        self._settled, self._unknown = True, unknown
        for owner in self.owners():
            if not self._is_open(owner):
                self._let_go(owner)

    def wanted(self, pod: Pod) -> bool:
        """Whether anybody may ask for the pod."""
        return not self._settled or self._must_stay(pod) or self._is_open(owner_of(pod))

    def owners(self) -> Iterator[str]:
        """The uids of tasks that have pods."""
        return iter([*self._pods])

    def on_change(self, old: Pod | None, new: Pod | None) -> None:
        """A reflector saw a pod appear, change or disappear."""
        pod = new if new is not None else old
        if pod is None:
            return
        owner = owner_of(pod)
        if old is not None and owner_of(old) != owner:
            self._taken(old)
        if not owner:
            if new is None or not _is_charged(new):
                self._inventory.pod_changed(pod, gone=True)  # it may have been ours, and has held its device until now
            return
        name = pod.metadata.name
        self._expected.pop((owner, name), None)
        before = self._pop(owner, name)
        if new is not None:
            self._pods.setdefault(owner, {})[name] = new
        else:
            self._keep_last(owner, name, pod)
        self._inventory.pod_changed(pod, gone=new is None)
        if before is not None and _is_charged(before) and (new is None or not _is_charged(new)):
            self._freed(owner)
        if before is None or new is None or _is_news(before, new):
            self._wake(owner)

    def _taken(self, old: Pod) -> None:
        """Somebody made the pod another's: for its task it is gone."""
        owner, name = owner_of(old), old.metadata.name
        if owner and self._pop(owner, name) is not None:
            self._keep_last(owner, name, old)
            if _is_charged(old):
                self._freed(owner)
            self._wake(owner)

    def _keep_last(self, owner: str, name: str, pod: Pod) -> None:
        if self._is_open(owner):
            self._gone.setdefault(owner, {})[name] = pod

    def _pop(self, owner: str, name: str) -> Pod | None:
        pods = self._pods.get(owner)
        if pods is None:
            return None
        pod = pods.pop(name, None)
        if not pods:
            del self._pods[owner]
        return pod

    def seed(self, pod: Pod, now: float) -> None:
        """A pod that the API server answered with; the watch may have been faster, and then it knows better."""
        owner, name = owner_of(pod), pod.metadata.name
        if name not in self._pods.get(owner, {}) or (owner, name) in self._expected:
            self._pods.setdefault(owner, {})[name] = pod
            self._expected[owner, name] = now
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
        pod = self._pop(owner, name)
        if pod is not None:
            self._keep_last(owner, name, pod)
            self._inventory.pod_changed(pod, gone=True)
            self._freed(owner)

    def get(self, owner: str, name: str) -> SeenPod | None:
        """The task's pod of this name, or how it was last seen."""
        pod = self._pods.get(owner, _NONE).get(name)
        if pod is not None:
            return project(pod)
        gone = self._gone.get(owner, _NONE).get(name)
        return project(gone, gone=True) if gone is not None else None

    def living(self, owner: str) -> list[Living]:
        """The pods of the task whose container may run, now or later."""
        return [
            Living(
                pod=project(pod),
                namespace=pod.metadata.namespace,
                queue=pod.metadata.labels.get(LABEL_QUEUE, DEFAULT_QUEUE),
                models=models_of(pod),
                expected_since=self._expected.get((owner, name)),
            )
            for name, pod in self._pods.get(owner, _NONE).items()
            if _is_charged(pod) and not pod.spec.scheduling_gates and not _has_ended(pod)
        ]

    def charged(self, owner: str) -> bool:
        """Whether a quota counts a pod of the task."""
        return any(_is_charged(pod) for pod in self._pods.get(owner, _NONE).values())

    def forget(self, owner: str, name: str) -> None:
        """The attempt is over: nobody will ask for the last words of its pod."""
        left = self._gone.get(owner, {})
        left.pop(name, None)
        if not left:
            self._gone.pop(owner, None)

    def forget_task(self, owner: str) -> None:
        """The task is final or gone: nobody will ask for anybody's last words."""
        self._gone.pop(owner, None)
        if self._settled:
            self._let_go(owner)

    def _let_go(self, owner: str) -> None:
        for name in [name for name, pod in self._pods.get(owner, _NONE).items() if not self._must_stay(pod)]:
            self._pop(owner, name)

    def _must_stay(self, pod: Pod) -> bool:
        return _is_charged(pod) or pod.metadata.namespace in self._unknown


def _is_news(before: Pod, now: Pod) -> bool:
    """Whether a pass would see more than our POST has answered, or more than a node: that one's kubelet speaks next."""
    told = project(before)
    return structs.replace(told, node=now.spec.node_name) != project(now)


def _is_charged(pod: Pod) -> bool:
    """A quota counts a pod until it is Succeeded or Failed."""
    return pod.status.phase not in ("Succeeded", "Failed")


def _has_ended(pod: Pod) -> bool:
    """The kubelet tells of the container's end before it calls the pod Succeeded."""
    return any(one.name == CONTAINER and one.state.terminated is not None for one in pod.status.container_statuses)
