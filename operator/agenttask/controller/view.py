"""What a pass sees of a task: its current attempt's pod, whether that may be created, what was refused."""

from typing import Final

from agenttask.api.task import AgentTaskSpec
from agenttask.controller.acceptance import PluginNames, refusal
from agenttask.controller.admission import Gate, missing, models_used
from agenttask.controller.attempt_pods import AttemptPods
from agenttask.controller.handover import Handover
from agenttask.controller.installation import Installation
from agenttask.controller.observer import TaskObserver
from agenttask.controller.pod_name import pod_name
from agenttask.controller.world import World
from agenttask.domain import attempts, deadlines, outcome
from agenttask.domain.model_names import models_named
from agenttask.domain.observation import Admission, Admitted, Observation, Refused, SeenPod, SeenTask, StoredOutput, Waits

_NOT_ASKED: Final = Admitted()


class View:
    """Builds observations. The verdict of validation is remembered: it depends on nothing that changes."""

    def __init__(
        self,
        *,
        world: World,
        pods: AttemptPods,
        installation: Installation,
        names: PluginNames,
        gate: Gate,
        observer: TaskObserver,
        handover: Handover,
        node_lost_seconds: float,
    ) -> None:
        self._world, self._pods, self._installation = world, pods, installation
        self._names, self._gate, self._observer, self._handover = names, gate, observer, handover
        self._node_lost_seconds = node_lost_seconds
        self._refusals: dict[str, Refused | None] = {}
        self._unanswered: dict[str, int] = {}
        """Attempts that this process put on record, until their POST was answered (`atMostOnce`)."""

    async def observe(self, task: SeenTask, now: float) -> Observation:
        """One look.

        Raises:
            KubeError: a pod on record is not in the cache, or an output is stored, and the API server could not be asked for it.
        """
        attempt = attempts.current(task)
        name = pod_name(task.metadata.name, task.uid, attempt)
        pod = self._world.pods.get(task.uid, name)
        on_record = bool(task.status.pod_name) and task.status.attempt == attempt
        if (pod is None and on_record) or self._world.pods.overdue(task.uid, name, now):
            # A cache may lag behind, and Lost may be for good: ask.
            await self._pods.look_up(task, name)
            pod = self._world.pods.get(task.uid, name)
        spec = task.spec
        waits = None
        if spec is not None and pod is not None and pod.started is None:
            models = models_used(spec, self._world.models.of(task.namespace))
            waits = missing(task.namespace, spec.inputs, models, self._world.inputs.__contains__)
        return Observation(
            admission=self._admission(task, spec, now) if pod is None and spec is not None else _NOT_ASKED,
            attempt=attempt,
            pod=pod,
            pod_name=name,
            unanswered=self._unanswered.get(task.uid) == attempt,
            node_lost_seconds=self._node_lost_seconds,
            rejection=self._pods.rejection(task.uid),
            missing_input=waits.message if waits is not None else None,
            models=", ".join(models_named(spec)) if spec is not None else "",
            trace_id=self._observer.trace_id(task),
            live=self._handover.live(task.uid, attempt),
            live_due=self._handover.due(task.uid),
            stored=await self._stored(task, attempt, pod),
        )

    async def _stored(self, task: SeenTask, attempt: int, pod: SeenPod | None) -> StoredOutput | None:
        report = outcome.report_of(pod) if pod is not None else None
        return await self._handover.stored_output(task, attempt) if report is not None and report.output_stored else None

    def record(self, uid: str, attempt: int) -> None:
        """The attempt is on record now, and its pod is about to be created."""
        self._unanswered[uid] = attempt

    def answered(self, uid: str) -> None:
        """The POST was answered."""
        self._unanswered.pop(uid, None)

    def forget(self, uid: str) -> None:
        """The task is final or gone."""
        self._refusals.pop(uid, None)
        self._unanswered.pop(uid, None)

    def _admission(self, task: SeenTask, spec: AgentTaskSpec, now: float) -> Admission:
        """Whether the pod may be created; a task that wants none now is not asked about."""
        again = deadlines.retry_at(task)
        if spec.cancel or spec.suspend or (again is not None and now < again):
            return _NOT_ASKED
        uid = task.uid
        if uid not in self._refusals:
            self._refusals[uid] = refusal(spec, self._installation, self._names)
        refused = self._refusals[uid]
        return refused if refused is not None else self._admit(task, spec)

    def _admit(self, task: SeenTask, spec: AgentTaskSpec) -> Admission:
        world = self._world
        admission = self._gate.admit(
            task.namespace,
            spec,
            models=world.models.of(task.namespace),
            exists=world.inputs.__contains__,
            inventory=world.inventory.stock(),
        )
        world.wakeups.wait(task.uid, admission.missing if isinstance(admission, Waits) else ())
        return admission
