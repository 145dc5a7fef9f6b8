"""What the dispatcher is told of each task as it is looked at: it waits, it has a pod, or neither. Level-based, as every look.

The verdict of validation is remembered: it depends on nothing that changes.
"""

import math
from typing import Final

from msgspec import structs

from agenttask.api.model import AgentModelSpec
from agenttask.api.reasons import ConditionType
from agenttask.api.task import AgentTaskSpec
from agenttask.controller.acceptance import PluginNames, refusal
from agenttask.controller.admission import Gate, models_used, remote_models
from agenttask.controller.attempt_pods import AttemptPods
from agenttask.controller.dispatcher import Dispatcher
from agenttask.controller.installation import Installation
from agenttask.controller.next_class import next_class
from agenttask.controller.pod_cache import EXPECTED_SECONDS, Living
from agenttask.controller.pod_name import pod_name
from agenttask.controller.quota_gate import pod_wish
from agenttask.controller.remote_models import REMOTE, models_on, remote_names
from agenttask.controller.world import World
from agenttask.domain import attempts, deadlines, fallback, moment
from agenttask.domain.conditions import holds
from agenttask.domain.model_names import models_named
from agenttask.domain.observation import Admission, Admitted, NextClass, Refused, SeenPod, SeenTask, Waits
from agenttask.domain.plan import MANAGER
from agenttask.domain.queueing import Wish

NOT_ASKED: Final = Admitted()
"""For a task that wants no pod now: the plan does not look at it."""


class Turns:
    """Asks for turns, keeps and gives them back."""

    def __init__(
        self,
        *,
        world: World,
        pods: AttemptPods,
        installation: Installation,
        names: PluginNames,
        gate: Gate,
        dispatcher: Dispatcher,
        node_lost_seconds: float,
    ) -> None:
        self._world, self._pods, self._installation = world, pods, installation
        self._names, self._gate, self._dispatcher = names, gate, dispatcher
        self._node_lost_seconds = node_lost_seconds
        self._refusals: dict[str, Refused | None] = {}

    def line_up(self, task: SeenTask, now: float) -> None:
        """Before the first decision: whoever has a pod has a turn, whoever is ready waits for one."""
        pod = self._world.pods.get(task.uid, pod_name(task.metadata.name, task.uid, attempts.current(task)))
        self.admission(task, pod, unanswered=False, now=now)

    def admission(self, task: SeenTask, pod: SeenPod | None, *, unanswered: bool, now: float) -> Admission:
        """Whether the current attempt's pod may be created; `unanswered` as in Observation."""
        spec, uid = task.spec, task.uid
        if spec is not None and pod is not None and not pod.finished and not pod.gates:
            class_ = pod.device.class_ if pod.device is not None else ""
            self._dispatcher.hold(uid, class_, lambda: self._wish(task, spec))
            return NOT_ASKED
        if spec is None or pod is not None or not self._wants(task, spec, unanswered=unanswered, now=now):
            self._dispatcher.leave(uid)
            return NOT_ASKED
        found = self._asked(task, spec)
        if not isinstance(found, Admitted):
            self._world.wakeups.wait(uid, found.missing if isinstance(found, Waits) else ())
        return found

    def next_class(self, task: SeenTask, pod: SeenPod) -> NextClass | None:
        """Where the task would go now, were its pod's class given up."""
        if task.spec is None or not self._installation.feature_gates.device_fallback or not fallback.asks_for_another(pod):
            return None
        world, class_ = self._world, pod.device.class_ if pod.device is not None else ""
        full = self._dispatcher.taken_classes(self._wish(task, task.spec), class_)
        return next_class(task, pod, gate=self._gate, models=world.models.of(task.namespace), inventory=world.inventory, full=full)

    def models_on(self, spec: AgentTaskSpec, namespace: str, class_: str) -> dict[str, AgentModelSpec]:
        """The models of a task's pod, as this device class has them."""
        models = self._world.models.of(namespace)
        return models_on(self._installation.device_class(class_), models_used(spec, models), models)

    def answered(self, uid: str) -> None:
        """The POST of the task's pod was answered; a refusal for good ends the task, as its next look shows."""
        refused = self._pods.rejection(uid)
        if refused is None:
            self._dispatcher.made(uid)
        elif refused.passing:
            self._dispatcher.refused(uid, refused.message)

    def forget(self, uid: str) -> None:
        """The task is final or gone; while a pod of its lives, its turn is taken."""
        self._refusals.pop(uid, None)
        living = self._world.pods.living(uid)
        if not living:
            self._dispatcher.leave(uid)
            return
        last = max(living, key=self._lost_at)
        class_ = last.pod.device.class_ if last.pod.device is not None else ""
        if not self._dispatcher.hold_until(uid, class_, lambda: _wish_of(last), self._lost_at(last)):
            for one in living:
                if one.expected_since is not None:
                    self._world.pods.lose(uid, one.pod.name)

    def _lost_at(self, living: Living) -> float:
        """Until when the pod of a task that is gone takes its turn, if nobody tells of its end (Unix seconds)."""
        if living.expected_since is not None:
            return living.expected_since + EXPECTED_SECONDS
        return living.pod.deletion + self._node_lost_seconds if living.pod.deletion is not None else math.inf

    def _wants(self, task: SeenTask, spec: AgentTaskSpec, *, unanswered: bool, now: float) -> bool:
        """Whether a task without a pod is to have one now, as far as it is up to the task."""
        if task.metadata.deletion_timestamp is not None or spec.managed_by not in (None, MANAGER):
            return False
        if spec.cancel or spec.suspend or holds(task.status.conditions, ConditionType.SUSPENDED):
            return False
        again, rejection = deadlines.retry_at(task), self._pods.rejection(task.uid)
        if rejection is not None and not rejection.passing:
            return False
        lost = attempts.on_record(task) and not unanswered and rejection is None
        return not lost and (again is None or now >= again)

    def _asked(self, task: SeenTask, spec: AgentTaskSpec) -> Admission:
        uid, namespace, world = task.uid, task.namespace, self._world
        if uid not in self._refusals:
            self._refusals[uid] = refusal(spec, self._installation, self._names)
        models = world.models.of(namespace)
        stopped = self._refusals[uid] or self._gate.ready(namespace, spec, models=models, exists=world.inputs.__contains__)
        if stopped is not None:
            self._dispatcher.leave(uid)
            return stopped
        found = self._dispatcher.ask(uid, self._wish(task, spec), priority=spec.priority, since=_since(task))
        match found:
            case Waits(reason=reason, message=message, position=position):
                missing = remote_models(namespace, spec, models)
                return Waits(reason=reason, message=message, missing=missing, position=position)
            case Admitted(device=device):
                never = self._gate.check_there(spec, device.class_, models)
                if never is not None:
                    self._dispatcher.leave(uid)
                    return never
                world.wakeups.forget(uid)
        return found

    def _wish(self, task: SeenTask, spec: AgentTaskSpec) -> Wish:
        tried = task.status.device.tried if task.status.device is not None else ()
        given_up = {one.class_: f"attempt {one.attempt} gave it up: {one.verdict}" for one in tried}
        models = self._world.models.of(task.namespace)
        device, named = self._gate.wish(spec, models, given_up), models_named(spec)
        wish = Wish(namespace=task.namespace, queue=spec.queue, device=device, models=named, pod=pod_wish(spec))
        wished = [self._installation.device_class(name) for name in spec.device.classes or self._installation.default_device_classes]
        remote = [one is not None and one.kind == REMOTE for one in wished]
        if not any(remote):
            return wish
        wish = structs.replace(wish, elsewhere=tuple(remote_names(named, models).items()))
        return structs.replace(wish, models=wish.remote_models, elsewhere=()) if all(remote) else wish


def _wish_of(living: Living) -> Wish:
    """What a pod tells of the turn that its task had: its models are those that it calls on its device class."""
    return Wish(namespace=living.namespace, queue=living.queue, models=living.models)


def _since(task: SeenTask) -> float:
    """When the task was created, or came back from suspension: a failed attempt costs no place in the line."""
    resumed = [one.last_transition_time for one in task.status.conditions if one.type == ConditionType.SUSPENDED and one.status == "False"]
    instants = [moment.parse(text) for text in (task.metadata.creation_timestamp, *resumed)]
    return max((instant for instant in instants if instant is not None), default=0.0)
