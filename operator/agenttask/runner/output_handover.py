"""Where an output goes that is too large for the termination message: the gateway's record, then the object store.

What a record takes is offered to the gateway first: it needs no credential, and goes with its task. What it cannot have, or
does not get, goes to the store, if there is one.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from agenttask.api.errors import AgentTaskError, Interrupted, OutputRejected, OutputTooLarge
from agenttask.api.gateway import MAX_RECORD_BYTES
from agenttask.api.report import ObjectReport
from agenttask.runner.output_store import OutputStore

if TYPE_CHECKING:
    from agenttask.runner.gateway.link import GatewayLink, MakeRoom


class HandedOver(Struct, frozen=True, kw_only=True):
    """Where it is: in the record, in the store, or nowhere, for this reason."""

    in_record: bool = False
    at: ObjectReport | None = None
    error: AgentTaskError | None = None


async def hand_over(
    output: bytes,
    too_large: OutputTooLarge,
    *,
    gateway: "GatewayLink | None",
    make_room: "MakeRoom",
    store: OutputStore | None,
    log: Callable[[str, str], None],
) -> HandedOver:
    """Leave the output where it fits.

    Args:
        output: of the task, UTF-8.
        too_large: what the termination message said of it.
        gateway: None where there is none.
        make_room: for it in the record, where checkpoint and output are too much together and there is no store.
        store: None where there is none.
        log: a line.
    """
    of_gateway: AgentTaskError | None = None
    if gateway is not None and (store is None or len(output) <= MAX_RECORD_BYTES):
        of_gateway = await gateway.keep_output(output, too_large, make_room=make_room if store is None else None)
        if of_gateway is None:
            return HandedOver(in_record=True)
        if store is None or isinstance(of_gateway, Interrupted):
            return HandedOver(error=of_gateway)
        log("output", f"to the object store, as the gateway has not taken it: {of_gateway}")
    if store is None:
        return HandedOver(error=too_large)
    log("output", f"{len(output)} bytes to {store.url}")
    try:
        return HandedOver(at=await store.keep(output))
    except AgentTaskError as error:
        if of_gateway is not None and (of_gateway.retryable or isinstance(of_gateway, OutputRejected)) and not error.retryable:
            return HandedOver(error=type(of_gateway)(f"{of_gateway}; nor has the object store: {error}"))
        return HandedOver(error=error)
