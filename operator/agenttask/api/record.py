"""AgentTaskRecord: what an attempt hands on and its task's status has no room for. The controller alone writes it.

It has no spec and no status: like a ConfigMap it holds data, and nobody acts on it.
"""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from agenttask.api.gateway import MAX_RECORD_BYTES
from agenttask.api.meta import ObjectMeta

_BASE64_CHARACTERS = MAX_RECORD_BYTES // 3 * 4


class AgentTaskRecord(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The record of one task, as the API server stores it; fields we do not know are skipped.

    `checkpoint` is base64 here and stays so: whoever stores it has no reason to look inside.
    """

    metadata: ObjectMeta
    task: Annotated[str, Meta(min_length=1, max_length=253)]
    task_uid: Annotated[str, Meta(min_length=1, max_length=128)] = msgspec.field(name="taskUID")
    attempt: Annotated[int, Meta(ge=1, le=10**6)]
    """The attempt that wrote last; `output` is its own, `checkpoint` may be of an earlier one."""
    checkpoint: Annotated[str, Meta(max_length=_BASE64_CHARACTERS)] | None = None
    output: Annotated[str, Meta(max_length=MAX_RECORD_BYTES)] | None = None
