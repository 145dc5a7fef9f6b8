"""The port through which the gateway hangs on the controller; without it an attempt hands on only its termination message."""

from collections.abc import Mapping
from typing import Final, Protocol

from msgspec import Struct

from agenttask.api.document import GatewayDocument
from agenttask.api.model import AgentModelSpec
from agenttask.api.report import Report
from agenttask.api.task import AgentTaskSpec
from agenttask.domain.observation import SeenTask, StoredOutput

HERE: Final[Mapping[str, str]] = {}
"""Every name is the AgentModel of that name."""


class Entry(Struct, frozen=True, kw_only=True):
    """What a new pod gets: its models with the limits that it may use of them, where the gateway is, and the token's variable."""

    models: Mapping[str, AgentModelSpec]
    gateway: GatewayDocument | None = None
    variables: Mapping[str, str] = {}


class Handover(Protocol):
    """What the reconciler asks and tells."""

    def enter(
        self,
        task: SeenTask,
        spec: AgentTaskSpec,
        attempt: int,
        models: Mapping[str, AgentModelSpec],
        elsewhere: Mapping[str, str] = HERE,
    ) -> Entry:
        """A pod is about to be made; `elsewhere` are the models that are another AgentModel on its device class, each with that one."""
        ...

    def live(self, uid: str, attempt: int) -> Report | None:
        """How far the attempt is, if it told."""
        ...

    def waits_for_record(self, uid: str, attempt: int) -> str:
        """Why the output of an attempt that has done its steps waits for its record; empty where it does not."""
        ...

    def due(self, uid: str) -> float:
        """From when on (Unix seconds) a status write may be spent on progress alone."""
        ...

    def status_written(self, uid: str) -> None:
        """The task's status was written just now."""
        ...

    async def stored_output(self, task: SeenTask, attempt: int) -> StoredOutput | None:
        """What an attempt whose report says `outputStored` did store.

        Raises:
            KubeError: the API server does not tell now.
        """
        ...

    def forget(self, uid: str) -> None:
        """The task is final or gone."""
        ...


class NoHandover:
    """There is no gateway."""

    def enter(
        self,
        task: SeenTask,  # noqa: ARG002 - a port's signature
        spec: AgentTaskSpec,  # noqa: ARG002
        attempt: int,  # noqa: ARG002
        models: Mapping[str, AgentModelSpec],
        elsewhere: Mapping[str, str] = HERE,  # noqa: ARG002
    ) -> Entry:
        """Each pod has the whole of its models' limits."""
        return Entry(models=models)

    def live(self, uid: str, attempt: int) -> Report | None:  # noqa: ARG002 - a port's signature
        """Nobody tells."""
        return None

    def waits_for_record(self, uid: str, attempt: int) -> str:  # noqa: ARG002
        """There are no records."""
        return ""

    def due(self, uid: str) -> float:  # noqa: ARG002
        """At any time."""
        return float("-inf")

    def status_written(self, uid: str) -> None:
        """Nobody wants to know."""

    async def stored_output(self, task: SeenTask, attempt: int) -> StoredOutput | None:  # noqa: ARG002
        """Nothing can have been stored."""
        return None

    def forget(self, uid: str) -> None:
        """Nothing is remembered."""
