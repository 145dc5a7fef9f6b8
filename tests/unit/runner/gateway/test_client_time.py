"""However the replicas behave, a request ends in its time, is no flood, and has the first answer that there is. In virtual time."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.virtual_time import loop_time, run_virtual

from agenttask.api.document import GatewayDocument
from agenttask.runner.gateway.client import GatewayClient
from agenttask.runner.gateway.errors import Fenced, GatewayError, GatewayRefused, GatewayUnavailable, RecordTooLarge
from agenttask.runner.gateway.exchange import Answer, NoAnswer

ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.0.0.3")
ENDINGS = {204: None, 400: GatewayRefused, 401: GatewayRefused, 403: Fenced, 413: RecordTooLarge}
Act = tuple[float, int, float | None]
"""Seconds until an answer, its status (0: none), its Retry-After."""
ACTS = st.tuples(
    st.sampled_from([0.0, 0.01, 3.0, 10.0]),
    st.sampled_from([0, 429, 500, 503, 503, 503, *ENDINGS]),
    st.none() | st.sampled_from([0.0, 1.0, 7.0, 86400.0]),
)


class Played:
    """In place of the HTTP of one address after the other; an address does its last act for ever."""

    host, port = "gateway", 1

    def __init__(self, acts: dict[str, list[Act]]) -> None:
        self.acts = acts
        self.asked: list[tuple[float, str]] = []
        self.statuses: list[int] = []

    async def ask(self, address: str, *_: object, **__: object) -> Answer:
        self.asked.append((loop_time(), address))
        acts = self.acts[address]
        seconds, status, wish = acts.pop(0) if len(acts) > 1 else acts[0]
        await asyncio.sleep(seconds)
        if not status:
            raise NoAnswer("played")
        self.statuses.append(status)
        return Answer(status=status, retry_after=wish)

    async def aclose(self) -> None:
        """Nothing is open."""


@given(
    acts=st.dictionaries(st.sampled_from(ADDRESSES), st.lists(ACTS, min_size=1, max_size=5), min_size=1),
    seconds=st.sampled_from([0.5, 10.0, 30.0]),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_any_behaviour_of_the_replicas(acts: dict[str, list[Act]], seconds: float, chance: float) -> None:
    async def work() -> None:
        told: list[Fenced] = []

        async def resolve(_host: str, _port: int) -> Sequence[str]:
            return sorted(acts)

        client = GatewayClient(
            GatewayDocument(url="https://gateway:1", ca=""), "t", fenced=told.append, resolve=resolve, rng=lambda: chance
        )
        played = Played(acts)
        client._exchange = played  # type: ignore[assignment]
        error: GatewayError | None = None
        try:
            await client.keep_checkpoint(b"x", seconds=seconds)
        except GatewayError as found:
            error = found
        assert loop_time() <= seconds + 0.001
        ends = [status for status in played.statuses if status in ENDINGS]
        if ends:
            assert (len(ends), type(error)) == (1, ENDINGS[ends[0]] or type(None))
            assert len(told) == (ends[0] == 403)
        else:
            assert isinstance(error, GatewayUnavailable)
            assert told == []
        by_address = defaultdict(list)
        for at, address in played.asked:
            by_address[address].append(at)
        for times in by_address.values():
            assert all(later - earlier >= 0.0999 for earlier, later in itertools.pairwise(times)), "a flood"

    run_virtual(work())
