"""The pods of attempts at the API server: looked up, created, adopted, deleted; and why one was refused.

A refusal is a fact that the next look plans from. It is remembered for the attempt that it was about, and worked out
again after a restart.
"""

import logging
from collections.abc import Callable
from typing import Final

import msgspec

from agenttask.api.errors import AgentTaskError
from agenttask.api.reasons import Reason
from agenttask.controller.installation import Installation
from agenttask.controller.kube_errors import AlreadyExists, Forbidden, Invalid, NotFound, ServerError, Unreachable
from agenttask.controller.kube_paths import pod_path, pods_path
from agenttask.controller.pod import PodRequest, build
from agenttask.controller.pod_cache import PodCache
from agenttask.controller.projection import owner_of
from agenttask.controller.rejection import rejection_of
from agenttask.controller.verify import verify
from agenttask.controller.wire import Pod
from agenttask.controller.world import Writer
from agenttask.domain.observation import Rejection, SeenTask
from agenttask.domain.plan import DeletePod

logger: Final = logging.getLogger(__name__)
_decode_pod: Final = msgspec.json.Decoder(Pod).decode


class AttemptPods:
    """Pods by task and name; `clock` in Unix seconds."""

    def __init__(self, *, pods: PodCache, writer: Writer, installation: Installation, clock: Callable[[], float]) -> None:
        self._pods, self._writer, self._installation, self._clock = pods, writer, installation, clock
        self._rejections: dict[str, Rejection] = {}
        """Why a task's pod was refused."""
        self._unsure: set[str] = set()
        """Tasks whose POST had no answer, or a failure for one: their pod may be there, and the watch may be late."""
        self._doubted: set[str] = set()
        """Tasks of whose attempt that is true of any POST: it may be carried out late."""

    def rejection(self, uid: str) -> Rejection | None:
        """Why the last POST for a task was refused, if it was."""
        return self._rejections.get(uid)

    def unsure(self, uid: str) -> bool:
        """Whether nobody knows if the last POST for a task made its pod; asking (`look_up`) tells."""
        return uid in self._unsure

    def never_made(self, uid: str) -> bool:
        """Whether every POST of the attempt was refused: it has no pod, and never had one."""
        return uid in self._rejections and uid not in self._doubted

    def forget(self, uid: str) -> None:
        """The attempt is over, or the task is gone."""
        self._rejections.pop(uid, None)
        self._unsure.discard(uid)
        self._doubted.discard(uid)

    async def create(self, request: PodRequest, name: str) -> None:
        """POST the pod; a refusal is remembered."""
        task = request.task
        try:
            body = build(request, self._installation)
            verify(body, self._installation)
        except AgentTaskError as error:
            self._rejections[task.uid] = Rejection(reason=error.reason, message=str(error))
            return
        try:
            answer = await self._writer.create(pods_path(task.namespace), body)
        except AlreadyExists as taken:
            await self._adopt(task, name, taken)
        except (Forbidden, Invalid) as error:
            self._rejections[task.uid] = rejection_of(error)
            logger.warning("%s: pod refused: %s", task, error.message)
        except (ServerError, Unreachable):
            self._unsure.add(task.uid)
            self._doubted.add(task.uid)
            raise
        else:
            self._pods.seed(_decode_pod(answer), self._clock())
            self._rejections.pop(task.uid, None)
            logger.debug("%s: pod %s created", task, name)

    async def _adopt(self, task: SeenTask, name: str, taken: AlreadyExists) -> None:
        """The name is taken: by our own pod of an earlier try, or by a stranger's."""
        found = await self.look_up(task, name)
        if found is None:
            raise taken  # it went just now; the watch will tell how it ended, so look again later
        if owner_of(found) == task.uid:
            self._rejections.pop(task.uid, None)
        else:
            message = f"a pod {name} exists and is not this task's; delete it and create the task anew"
            self._rejections[task.uid] = Rejection(reason=Reason.POD_REJECTED, message=message)

    async def look_up(self, task: SeenTask, name: str) -> Pod | None:
        """Ask the API server for the pod of this name, and take it in if it is the task's."""
        try:
            pod = _decode_pod(await self._writer.get(pod_path(task.namespace, name)))
        except NotFound:
            self._unsure.discard(task.uid)
            self._pods.lose(task.uid, name)
            return None
        self._unsure.discard(task.uid)
        if owner_of(pod) == task.uid:
            self._pods.seed(pod, self._clock())
        return pod

    async def delete(self, task: SeenTask, action: DeletePod) -> None:
        """DELETE the pod, if it is still that one."""
        try:
            await self._writer.delete(pod_path(task.namespace, action.name), uid=action.uid)
        except NotFound:
            return
        logger.info("%s: pod %s deleted (%s)", task, action.name, action.why)
