"""One pass over one task: observe, plan, act, and write status at most once.

Level-based: whatever woke us, the same look and the same plan. What is remembered between passes (the verdict of
validation, why a POST was refused) is worked out again after a restart.
"""

import logging
import random as randomness
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from agenttask.api.errors import AgentTaskError
from agenttask.api.reasons import Phase, Reason
from agenttask.api.task import AgentTaskSpec, AgentTaskStatus
from agenttask.controller.acceptance import PluginNames, refusal
from agenttask.controller.admission import Gate, missing, models_used
from agenttask.controller.installation import Installation
from agenttask.controller.inventory import Inventory
from agenttask.controller.kube_errors import AlreadyExists, Conflict, Forbidden, Invalid, NotFound
from agenttask.controller.kube_paths import pod_path, pods_path, task_path
from agenttask.controller.merge_patch import status_patch
from agenttask.controller.observer import TaskObserver
from agenttask.controller.pace import Pace
from agenttask.controller.pod import PodRequest, build
from agenttask.controller.pod_cache import PodCache
from agenttask.controller.pod_name import pod_name
from agenttask.controller.rejection import rejection_of
from agenttask.controller.surroundings import Models, Presence
from agenttask.controller.task_cache import TaskCache, read_task
from agenttask.controller.verify import verify
from agenttask.controller.wakeups import Wakeups
from agenttask.controller.wire import Pod, owner_of
from agenttask.domain.model_names import models_named
from agenttask.domain.observation import Admission, Admitted, Observation, Refused, Rejection, SeenPod, SeenTask, Waits
from agenttask.domain.plan import CreatePod, DeletePod, Plan, plan

logger: Final = logging.getLogger(__name__)
ATTEMPT: Final = 1
_LOOKS: Final = 3
"""A created or refused pod is a new fact, looked at in the same pass; there are never more than two."""
_decode_pod: Final = msgspec.json.Decoder(Pod).decode


class Writer(Protocol):
    """The calls to the API server that a pass makes (KubeClient)."""

    async def get(self, path: str) -> bytes:
        """One object."""
        ...

    async def create(self, path: str, body: bytes) -> bytes:
        """POST to a collection."""
        ...

    async def delete(self, path: str, *, uid: str, grace_seconds: int | None = None) -> None:
        """DELETE with a uid precondition."""
        ...

    async def patch_status(self, path: str, body: bytes) -> bytes:
        """Merge-patch the status."""
        ...


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known, kept current by reflectors and kopf."""

    tasks: TaskCache
    pods: PodCache
    models: Models
    inputs: Presence
    inventory: Inventory
    wakeups: Wakeups


class Reconciler:
    """Reconciles keys (uids); the queue sees to it that a key is with one driver at a time."""

    def __init__(
        self,
        *,
        world: World,
        writer: Writer,
        installation: Installation,
        names: PluginNames,
        gate: Gate,
        observer: TaskObserver,
        pace: Pace,
        clock: Callable[[], float],
        random: Callable[[], float] = randomness.random,
    ) -> None:
        self._world, self._writer, self._installation = world, writer, installation
        self._names, self._gate, self._observer, self._pace = names, gate, observer, pace
        self._clock, self._random = clock, random
        self._refusals: dict[str, Refused | None] = {}
        self._rejections: dict[str, tuple[Rejection, int]] = {}
        """Why the pod was refused, and how often in a row."""

    async def reconcile(self, uid: str) -> float | None:
        """One pass; seconds until time alone may ask for another one.

        Raises:
            KubeError: the API server could not do it; look again later.
        """
        task = self._world.tasks.get(uid)
        if task is None:
            self._forget(uid)
            return None
        for _ in range(_LOOKS):
            seen = await self._observe(task)
            made = plan(task, seen, self._clock())
            news = False
            for action in made.actions:
                match action:
                    case CreatePod():
                        await self._create(task, seen)
                        news = True
                    case DeletePod():
                        await self._delete(task, action)
            if not news:
                break
        return await self._write(task, seen, made)

    async def _observe(self, task: SeenTask) -> Observation:
        name = pod_name(task.metadata.name, task.uid, ATTEMPT)
        pod = self._world.pods.get(task.uid, name)
        if (pod is None and task.status.pod_name) or self._world.pods.overdue(task.uid, name, self._clock()):
            # A cache may lag behind, and Lost is for good: ask.
            await self._look_up(task, name)
            pod = self._world.pods.get(task.uid, name)
        spec = task.spec
        rejection = self._rejections.get(task.uid)
        waits = None
        if spec is not None and pod is not None and pod.started is None:
            models = models_used(spec, self._world.models.of(task.namespace))
            waits = missing(task.namespace, spec.inputs, models, self._world.inputs.__contains__)
        return Observation(
            admission=self._admit(task, spec) if pod is None and spec is not None else Admitted(),
            pod=pod,
            pod_name=name,
            rejection=rejection[0] if rejection is not None else None,
            missing_input=waits.message if waits is not None else None,
            models=", ".join(models_named(spec)) if spec is not None else "",
            trace_id=self._observer.trace_id(task),
        )

    def _admit(self, task: SeenTask, spec: AgentTaskSpec) -> Admission:
        uid = task.uid
        if uid not in self._refusals:
            self._refusals[uid] = refusal(spec, self._installation, self._names)
        refused = self._refusals[uid]
        if refused is not None:
            return refused
        world = self._world
        admission = self._gate.admit(
            task.namespace,
            spec,
            models=world.models.of(task.namespace),
            exists=world.inputs.__contains__,
            inventory=world.inventory.stock(),
        )
        world.wakeups.wait(uid, admission.missing if isinstance(admission, Waits) else ())
        return admission

    async def _create(self, task: SeenTask, seen: Observation) -> None:
        """POST the pod; a refusal is remembered as a fact for the next look."""
        try:
            body = self._body(task, seen)
        except AgentTaskError as error:
            self._rejections[task.uid] = (Rejection(reason=error.reason, message=str(error)), 1)
            return
        try:
            answer = await self._writer.create(pods_path(task.namespace), body)
        except AlreadyExists as taken:
            await self._adopt(task, seen.pod_name, taken)
        except (Forbidden, Invalid) as error:
            failures = self._rejections[task.uid][1] + 1 if task.uid in self._rejections else 1
            rejection = rejection_of(error, failures=failures, now=self._clock(), random=self._random())
            self._rejections[task.uid] = (rejection, failures)
            logger.warning("%s: pod refused: %s", task, error.message)
        else:
            self._world.pods.seed(_decode_pod(answer), self._clock())
            self._rejections.pop(task.uid, None)
            logger.info("%s: pod %s created", task, seen.pod_name)

    def _body(self, task: SeenTask, seen: Observation) -> bytes:
        spec, admission = task.spec, seen.admission
        if spec is None or not isinstance(admission, Admitted):
            raise AssertionError("a pod is planned for admitted tasks only")
        request = PodRequest(
            task=task,
            spec=spec,
            attempt=ATTEMPT,
            models=models_used(spec, self._world.models.of(task.namespace)),
            device=admission.device,
            device_class=self._installation.device_class(admission.device.class_),
            environment=self._observer.environment_for(task, ATTEMPT, seen.pod_name),
        )
        body = build(request, self._installation)
        verify(body, self._installation)
        return body

    async def _adopt(self, task: SeenTask, name: str, taken: AlreadyExists) -> None:
        """The name is taken: by our own pod of an earlier try, or by a stranger's."""
        found = await self._look_up(task, name)
        if found is None:
            raise taken  # it went just now; the watch will tell how it ended, so look again later
        if owner_of(found) != task.uid:
            message = f"a pod {name} exists and is not this task's; delete it and create the task anew"
            self._rejections[task.uid] = (Rejection(reason=Reason.POD_REJECTED, message=message), 1)

    async def _look_up(self, task: SeenTask, name: str) -> Pod | None:
        """Ask the API server for the pod of this name, and take it in if it is the task's."""
        try:
            pod = _decode_pod(await self._writer.get(pod_path(task.namespace, name)))
        except NotFound:
            self._world.pods.lose(task.uid, name)
            return None
        if owner_of(pod) == task.uid:
            self._world.pods.seed(pod, self._clock())
        return pod

    async def _delete(self, task: SeenTask, action: DeletePod) -> None:
        try:
            await self._writer.delete(pod_path(task.namespace, action.name), uid=action.uid)
        except NotFound:
            return
        logger.info("%s: pod %s deleted (%s)", task, action.name, action.why)

    async def _write(self, task: SeenTask, seen: Observation, made: Plan) -> float | None:
        status = made.status
        body = status_patch(task, status) if status is not None else None
        if status is None or body is None:
            return made.requeue_after
        if status.phase in (Phase.QUEUED, Phase.STARTING):
            wait = self._pace.wait(task.uid, self._clock())
            if wait > 0:
                return wait if made.requeue_after is None else min(wait, made.requeue_after)
        path = task_path(task.namespace, task.metadata.name)
        try:
            answer = await self._writer.patch_status(path, body)
        except NotFound:
            self._gone(task)
            return None
        except Conflict:
            await self._look_again(task, path)
            raise
        self._written(task, seen.pod, status, answer)
        return made.requeue_after

    def _written(self, task: SeenTask, pod: SeenPod | None, status: AgentTaskStatus, answer: bytes) -> None:
        logger.info("%s: %s (%s)", task, status.phase, status.reason)
        if status.phase is not None and status.phase.terminal:
            self._observer.task_finished(task, status, pod)
            self._gone(task)
            return
        written = read_task(msgspec.json.decode(answer))
        if written is not None:
            self._world.tasks.put(written)

    async def _look_again(self, task: SeenTask, path: str) -> None:
        """Somebody wrote meanwhile: take their view, so that the next pass plans from it."""
        try:
            current = read_task(msgspec.json.decode(await self._writer.get(path)))
        except NotFound:
            current = None
        if current is None or current.uid != task.uid:
            self._gone(task)
        else:
            self._world.tasks.put(current)

    def _gone(self, task: SeenTask) -> None:
        self._world.tasks.drop(task.uid)
        self._forget(task.uid)

    def _forget(self, uid: str) -> None:
        self._refusals.pop(uid, None)
        self._rejections.pop(uid, None)
        self._pace.forget(uid)
        self._world.wakeups.forget(uid)
        self._world.pods.forget(uid)
