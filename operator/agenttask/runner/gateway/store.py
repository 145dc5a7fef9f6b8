"""Checkpoints kept by the gateway: those of any attempt of the task, read by the attempts after it."""

from agenttask.runner.checkpoint_store import CheckpointTooLarge, CheckpointUnavailable
from agenttask.runner.checkpoint_writer import Pace
from agenttask.runner.gateway.client import GatewayClient
from agenttask.runner.gateway.errors import GatewayError, RecordTooLarge

LOAD_SECONDS = 60.0
"""What is not taken over has to be done again: worth waiting until another replica leads."""
SAVE_SECONDS = 10.0
"""A third of the runner's grace: the last save has to end within it."""

PACE = Pace(quiet=2.0, gap=5.0, bytes_a_second=32 * 1024, when_succeeded=False)
"""Each save is a write of the whole to the API server."""


class GatewayStore:
    """A `CheckpointStore`; the first attempt has nothing to take over, and never asks."""

    def __init__(
        self, gateway: GatewayClient, *, attempt: int, load_seconds: float = LOAD_SECONDS, save_seconds: float = SAVE_SECONDS
    ) -> None:
        self._gateway = gateway
        self._attempt = attempt
        self._load_seconds = load_seconds
        self._save_seconds = save_seconds

    async def load(self) -> bytes | None:
        """What an earlier attempt has left."""
        if self._attempt == 1:
            return None
        try:
            return await self._gateway.checkpoint(seconds=self._load_seconds)
        except GatewayError as error:
            raise CheckpointUnavailable(str(error)) from error

    async def save(self, raw: bytes) -> None:
        """Leave it to the next attempt."""
        try:
            await self._gateway.keep_checkpoint(raw, seconds=self._save_seconds)
        except RecordTooLarge as error:
            raise CheckpointTooLarge(str(error)) from error
        except GatewayError as error:
            raise CheckpointUnavailable(str(error)) from error
