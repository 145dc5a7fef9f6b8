"""The gateway as a part of the running controller: its desk, its socket, and the caches that it looks at."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from agenttask.api.gateway import TokenClaims
from agenttask.api.meta import ObjectMeta
from agenttask.api.model import AgentModelSpec
from agenttask.api.reasons import Phase
from agenttask.controller.admission import models_used
from agenttask.controller.gateway.desk import Desk
from agenttask.controller.gateway.identity import SecretIdentity
from agenttask.controller.gateway.listener import REFRESH_SECONDS, Doors, listen
from agenttask.controller.gateway.records import Records, Writer
from agenttask.controller.gateway.refusals import Unavailable
from agenttask.controller.gateway.server import Gateway
from agenttask.controller.gateway.sharing import Holders
from agenttask.controller.installation import Installation
from agenttask.controller.kube_errors import KubeError, NotFound
from agenttask.controller.kube_paths import task_path
from agenttask.controller.remote_models import elsewhere, models_on
from agenttask.controller.settings import GatewaySettings
from agenttask.controller.world import World
from agenttask.domain.device import DeviceClass
from agenttask.domain.observation import SeenPod, SeenTask

logger: Final = logging.getLogger(__name__)


class GatewayService:
    """Made once, run until cancelled; `leading` tells whether this replica writes, `holders` who has a turn with a model.

    Raises:
        BadIdentity: the folder of the Secret has not what is needed.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        writer: Writer,
        world: World,
        installation: Installation,
        wake: Callable[[str], None],
        leading: Callable[[], bool],
        holders: Holders,
        clock: Callable[[], float],
        refresh_seconds: float = REFRESH_SECONDS,
    ) -> None:
        self._settings, self._leading, self._refresh_seconds = settings, leading, refresh_seconds
        self._identity = SecretIdentity(Path(settings.certificate_dir))
        caches = _Caches(world, writer, installation)
        self.desk = Desk(
            view=caches, records=Records(writer), wake=wake, identity=self._identity, url=settings.url, holders=holders, clock=clock
        )
        self.port = asyncio.get_running_loop().create_future()
        """Known once it listens."""

    async def run(self, ready: Callable[[], str | None]) -> None:
        """Listen, and answer 503 as long as this replica is not the leader, or `ready` says what is still missing.

        Raises:
            OSError: the port is taken.
        """
        application = Gateway(self.desk, leading=self._leading, ready=ready).application()
        async with listen(application, self._identity, port=self._settings.port, doors=Doors(), refresh=self._refresh_seconds) as port:
            logger.info("the gateway listens on port %d", port)
            self.port.set_result(port)
            await asyncio.Event().wait()


class _Progress(Struct, frozen=True):
    phase: Phase | None = None


class _TaskHead(Struct, frozen=True):
    """What says whether a task is over."""

    metadata: ObjectMeta
    status: _Progress = _Progress()


_decode_head: Final = msgspec.json.Decoder(_TaskHead).decode


class _Caches:
    """The caches as the desk asks for them."""

    def __init__(self, world: World, writer: Writer, installation: Installation) -> None:
        self._world, self._writer, self._installation = world, writer, installation

    def task(self, uid: str) -> SeenTask | None:
        """The task, unless it is final or gone."""
        return self._world.tasks.get(uid)

    async def over(self, claims: TokenClaims) -> bool:
        """Whether the API server says that the task is final or gone.

        Raises:
            Unavailable: it does not tell now.
        """
        try:
            task = _decode_head(await self._writer.get(task_path(claims.namespace, claims.task)))
        except NotFound:
            return True
        except (KubeError, msgspec.MsgspecError) as error:
            raise Unavailable(f"the task is not known here, and the API server does not tell of it: {error}", retry_after=1) from error
        return task.metadata.uid != claims.uid or (task.status.phase is not None and task.status.phase.terminal)

    def pod(self, uid: str, name: str) -> SeenPod | None:
        """Its pod of this name."""
        return self._world.pods.get(uid, name)

    def models(self, task: SeenTask, pod: SeenPod | None) -> Mapping[str, AgentModelSpec]:
        """The AgentModels that its pod uses, fallbacks among them, as the pod's device class has them."""
        if task.spec is None:
            return {}
        seen = self._world.models.of(task.namespace)
        return models_on(self._class(pod), models_used(task.spec, seen), seen)

    def elsewhere(self, task: SeenTask, pod: SeenPod | None) -> Mapping[str, str]:
        """Those of them that are another AgentModel on the pod's device class, each with that one."""
        if task.spec is None:
            return {}
        seen = self._world.models.of(task.namespace)
        return elsewhere(self._class(pod), list(models_used(task.spec, seen)), seen)

    def _class(self, pod: SeenPod | None) -> DeviceClass | None:
        return self._installation.device_class(pod.device.class_) if pod is not None and pod.device is not None else None
