"""What a pass sees of a task: its current attempt's pod, whether that may be created, what was refused."""

import msgspec

from agenttask.controller.admission import missing
from agenttask.controller.attempt_pods import AttemptPods
from agenttask.controller.device_events import DeviceEvents
from agenttask.controller.handover import Handover
from agenttask.controller.installation import OutputStore
from agenttask.controller.kueue import QUEUE_LABEL
from agenttask.controller.observer import TaskObserver
from agenttask.controller.pod_name import pod_name
from agenttask.controller.turns import Turns
from agenttask.controller.world import World
from agenttask.domain import attempts, outcome
from agenttask.domain.clocks import on_our_clock
from agenttask.domain.model_names import models_named
from agenttask.domain.observation import Observation, SeenPod, SeenTask, StoredOutput
from agenttask.domain.output_store import Disbelieved, accepted


class View:
    """Builds observations."""

    def __init__(
        self,
        *,
        world: World,
        pods: AttemptPods,
        turns: Turns,
        devices: DeviceEvents,
        observer: TaskObserver,
        handover: Handover,
        store: OutputStore,
        node_lost_seconds: float,
    ) -> None:
        self._world, self._pods, self._turns, self._devices = world, pods, turns, devices
        self._observer, self._handover, self._store = observer, handover, store
        self._node_lost_seconds = node_lost_seconds
        self._unanswered: dict[str, int] = {}
        """Attempts that this process put on record, until their POST was answered (`atMostOnce`)."""
        self._let_go: dict[str, float] = {}
        """Since when Kueue does not hold a task's pod back any more, as far as this process saw."""

    async def observe(self, task: SeenTask, now: float) -> Observation:
        """One look.

        Raises:
            KubeError: a pod that may be there is not in the cache, or an output is stored, and the API server could not be asked for it.
        """
        attempt = attempts.current(task)
        name = pod_name(task.metadata.name, task.uid, attempt)
        pod = self._world.pods.get(task.uid, name)
        if (
            (pod is None and ((attempts.on_record(task) and not self._pods.never_made(task.uid)) or self._pods.unsure(task.uid)))
            or _left(pod)
            or self._world.pods.overdue(task.uid, name, now)
        ):
            # A cache may lag behind, a pod without our label leaves the watch and lives, and Lost or Cancelled are for good: ask.
            await self._pods.look_up(task, name)
            pod = self._world.pods.get(task.uid, name)
        if pod is not None:
            pod = self._since_let_go(task, on_our_clock(pod, now), now)
            pod = await self._devices.completed(task.uid, task.namespace, pod, now)
        spec = task.spec
        waits = None
        if spec is not None and pod is not None and pod.started is None:
            models = self._turns.models_on(spec, task.namespace, pod.device.class_ if pod.device is not None else "")
            waits = missing(task.namespace, spec, models, self._world.inputs.__contains__)
        unanswered = self._unanswered.get(task.uid) == attempt
        stored, disbelieved = await self._stored(task, attempt, pod)
        return Observation(
            admission=self._turns.admission(task, pod, unanswered=unanswered, now=now),
            attempt=attempt,
            pod=pod,
            pod_name=name,
            unanswered=unanswered,
            node_lost_seconds=self._node_lost_seconds,
            rejection=self._pods.rejection(task.uid),
            never_made=self._pods.never_made(task.uid),
            next_class=self._turns.next_class(task, pod) if pod is not None else None,
            missing_input=waits.message if waits is not None else None,
            models=", ".join(models_named(spec)) if spec is not None else "",
            trace_id=self._observer.trace_id(task),
            live=self._handover.live(task.uid, attempt),
            waits_for_record=self._handover.waits_for_record(task.uid, attempt),
            live_due=self._handover.due(task.uid),
            stored=stored,
            disbelieved=disbelieved,
        )

    def _since_let_go(self, task: SeenTask, pod: SeenPod, now: float) -> SeenPod:
        """The pod, its time to find a node counted from its release: its condition PodScheduled is False from its making on."""
        if pod.gates or not task.metadata.labels.get(QUEUE_LABEL):
            self._let_go.pop(task.uid, None)
            return pod
        began = self._let_go.setdefault(task.uid, now)
        if pod.unschedulable is None:
            return pod
        return msgspec.structs.replace(pod, unschedulable_since=max(pod.unschedulable_since or began, began))

    async def _stored(self, task: SeenTask, attempt: int, pod: SeenPod | None) -> tuple[StoredOutput | None, str]:
        """What the attempt has stored besides its report, and why what it says of that is not believed."""
        report = outcome.report_of(pod) if pod is not None else None
        if report is None or not report.handed_over:
            return None, ""
        if report.output_object is None:
            return await self._handover.stored_output(task, attempt), ""
        store = self._store
        found = accepted(report.output_object, url=store.url, max_bytes=store.max_bytes, task=task.metadata, attempt=attempt)
        return (None, found.why) if isinstance(found, Disbelieved) else (StoredOutput(ref=found), "")

    def record(self, uid: str, attempt: int) -> None:
        """The attempt is on record now, and its pod is about to be created."""
        self._unanswered[uid] = attempt

    def answered(self, uid: str) -> None:
        """The POST was answered."""
        self._unanswered.pop(uid, None)
        self._turns.answered(uid)

    def forget(self, uid: str) -> None:
        """The task is final or gone."""
        self._turns.forget(uid)
        self._devices.forget(uid)
        self._unanswered.pop(uid, None)
        self._let_go.pop(uid, None)


def _left(pod: SeenPod | None) -> bool:
    """Whether a pod left the watch while it lived and was not being deleted."""
    return pod is not None and pod.gone and pod.terminated is None and pod.phase not in ("Succeeded", "Failed") and pod.deletion is None
