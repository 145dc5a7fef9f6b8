"""One pass over one task: observe, plan, act, and write status at most once.

Level-based: whatever woke us, the same look and the same plan. What is remembered between passes (the verdict of
validation, why a POST was refused) is worked out again after a restart.
"""

import logging
from collections.abc import Callable
from typing import Final

import msgspec

from agenttask.api.reasons import Phase
from agenttask.api.task import AgentTaskStatus
from agenttask.controller.admission import models_used
from agenttask.controller.attempt_pods import AttemptPods
from agenttask.controller.handover import Handover
from agenttask.controller.installation import Installation
from agenttask.controller.kube_errors import Conflict, NotFound
from agenttask.controller.kube_paths import task_path
from agenttask.controller.merge_patch import status_patch
from agenttask.controller.observer import TaskObserver
from agenttask.controller.pace import Pace
from agenttask.controller.pod import PodRequest
from agenttask.controller.pod_cache import EXPECTED_SECONDS
from agenttask.controller.remote_models import elsewhere, models_on
from agenttask.controller.task_cache import read_task
from agenttask.controller.view import View
from agenttask.controller.world import World, Writer
from agenttask.domain import fallback
from agenttask.domain.model_names import models_named
from agenttask.domain.observation import Admitted, Observation, SeenPod, SeenTask
from agenttask.domain.plan import AT_ONCE, CreatePod, DeletePod, Plan, plan

logger: Final = logging.getLogger(__name__)
_LOOKS: Final = 3
"""A created or refused pod is a new fact, looked at in the same pass; after so many the other tasks have their turn first."""


class Reconciler:
    """Reconciles keys (uids); the queue sees to it that a key is with one driver at a time."""

    def __init__(
        self,
        *,
        world: World,
        writer: Writer,
        installation: Installation,
        view: View,
        pods: AttemptPods,
        observer: TaskObserver,
        handover: Handover,
        pace: Pace,
        ended: Callable[[SeenTask, AgentTaskStatus], None],
        clock: Callable[[], float],
    ) -> None:
        self._world, self._writer, self._installation = world, writer, installation
        self._view, self._pods, self._observer, self._pace = view, pods, observer, pace
        self._handover, self._ended, self._clock = handover, ended, clock

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
            now = self._clock()
            seen = await self._view.observe(task, now)
            made = plan(task, seen, now)
            news = False
            for action in made.actions:
                match action:
                    case CreatePod():
                        task = await self._create(task, seen, action)
                        news = True
                    case DeletePod():
                        await self._pods.delete(task, action)
            if not news:
                break
        after = await self._write(task, seen, made)
        if news:
            return AT_ONCE  # refused on one device class after the other, and nobody has looked at what that leaves
        if self._world.pods.unseen(uid, seen.pod_name):
            # Nobody will wake us for it.
            after = EXPECTED_SECONDS if after is None else min(after, EXPECTED_SECONDS)
        return after

    async def _create(self, task: SeenTask, seen: Observation, action: CreatePod) -> SeenTask:
        """Put the attempt on record where the plan says so, then POST its pod; the task as it stands afterwards."""
        if action.record is not None:
            task = await self._record(task, seen, action.record)
        spec, admission = task.spec, seen.admission
        if spec is None or not isinstance(admission, Admitted):
            raise AssertionError("a pod is planned for admitted tasks only")
        device, of_namespace = self._installation.device_class(admission.device.class_), self._world.models.of(task.namespace)
        models = models_on(device, models_used(spec, of_namespace), of_namespace)
        moved = elsewhere(device, list(models), of_namespace)
        entry = self._handover.enter(task, spec, action.attempt, models, moved)
        request = PodRequest(
            task=task,
            spec=spec,
            attempt=action.attempt,
            models=entry.models,
            device=admission.device,
            device_class=device,
            environment={**self._observer.environment_for(task, action.attempt, seen.pod_name), **entry.variables},
            gateway=entry.gateway,
            calls=tuple(dict.fromkeys(moved.get(name, name) for name in models_named(spec))),
        )
        await self._pods.create(request, seen.pod_name)
        self._view.answered(task.uid)
        return task

    async def _record(self, task: SeenTask, seen: Observation, status: AgentTaskStatus) -> SeenTask:
        body = status_patch(task, status)
        if body is not None and not await self._patch(task, seen.pod, status, body):
            raise NotFound(404, "NotFound", f"task {task} is gone")
        self._view.record(task.uid, status.attempt)
        return self._world.tasks.get(task.uid) or task

    async def _write(self, task: SeenTask, seen: Observation, made: Plan) -> float | None:
        status = made.status
        body = status_patch(task, status) if status is not None else None
        if status is None or body is None:
            self._pace.forget(task.uid)  # what was to be told is over, and others wait to tell
            return made.requeue_after
        if _only_tells(task.status, status):
            wait = self._pace.wait(task.uid, self._clock())
            if wait > 0:
                return wait if made.requeue_after is None else min(wait, made.requeue_after)
        else:
            self._pace.forget(task.uid)
        if not await self._patch(task, seen.pod, status, body):
            return None
        if status.ended_attempts != task.status.ended_attempts:
            self._pods.forget(task.uid)
            self._world.pods.forget(task.uid, seen.pod_name)
        return made.requeue_after

    async def _patch(self, task: SeenTask, pod: SeenPod | None, status: AgentTaskStatus, body: bytes) -> bool:
        """Write the status; whether there is anything more to do for the task."""
        path = task_path(task.namespace, task.metadata.name)
        try:
            answer = await self._writer.patch_status(path, body)
        except NotFound:
            self._gone(task)
            return False
        except Conflict:
            await self._look_again(task, path)
            raise
        logger.info("%s: %s (%s)", task, status.phase, status.reason)
        if status.phase is not None and status.phase.terminal:
            self._observer.task_finished(task, status, pod)
            self._ended(task, status)
            self._gone(task)
            return False
        if status.ended_attempts != task.status.ended_attempts:
            self._observer.attempt_ended(task, status, pod)
        self._handover.status_written(task.uid)
        written = read_task(msgspec.json.decode(answer))
        if written is not None:
            self._world.tasks.put(written)
        return True

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
        self._view.forget(uid)
        self._handover.forget(uid)
        self._pods.forget(uid)
        self._pace.forget(uid)
        self._world.wakeups.forget(uid)
        self._world.pods.forget_task(uid)


def _only_tells(old: AgentTaskStatus, new: AgentTaskStatus) -> bool:
    """Whether a write would say only what a task waits for, or how far it is: nobody misses one that comes later.

    The task itself waits for the others: for its return from suspension, and for the note that a device class is given up. An attempt
    that is taken off record must not look lost to the next controller.
    """
    if new.ended_attempts != old.ended_attempts or new.attempt < old.attempt:
        return False
    if old.phase is Phase.SUSPENDED or fallback.tried(new) != fallback.tried(old):
        return False
    return new.phase in (Phase.QUEUED, Phase.STARTING) or (new.phase is Phase.RUNNING and old.phase is Phase.RUNNING)
