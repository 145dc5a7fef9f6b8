"""The bodies of an AgentTaskRecord's writes, and how much of its room they take. Pure.

Two limits hold together. What users are told counts bytes: checkpoint and output, at most 900 KiB. What the API server
stores is JSON as Go writes it, base64 for the checkpoint and six bytes for each `<`, `>` and `&`; etcd refuses 1.5 MiB.
"""

import base64
import re
from typing import Any, Final

import msgspec
from msgspec import Struct

from agenttask.api import constants as c
from agenttask.api.gateway import MAX_RECORD_BYTES, TokenClaims
from agenttask.controller.gateway.refusals import TooLarge
from agenttask.controller.pod_name import pod_name

MAX_STORED_BYTES: Final = 1400 * 1024
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u2028\u2029]")
_SHORT: Final = '"\\\n\r\t'
_LONG: Final = "<>&"
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class Size(Struct, frozen=True):
    """Bytes of a part as it is, and as JSON in the store."""

    plain: int = 0
    stored: int = 0


def record_name(task: str, uid: str) -> str:
    """The record's name: the stem that the task's pods have, so that two tasks of one name never meet."""
    return pod_name(task, uid, 0).removesuffix("-0")


def size_of_checkpoint(body: bytes) -> Size:
    """Of a checkpoint."""
    return Size(len(body), (len(body) + 2) // 3 * 4)


def size_of_output(text: str) -> Size:
    """Of an output."""
    plain = len(text.encode())
    longer = sum(text.count(one) for one in _SHORT) + 5 * (sum(text.count(one) for one in _LONG) + len(_CONTROL.findall(text)))
    return Size(plain, plain + longer)


def check_room(what: str, new: Size, beside: Size) -> None:
    """Refuse what does not fit beside the other part.

    Raises:
        TooLarge: with sizes, limit and remedy.
    """
    if new.plain + beside.plain > MAX_RECORD_BYTES:
        rest = f", with {beside.plain} bytes stored beside it" if beside.plain else ""
        raise TooLarge(f"the {what} has {new.plain} bytes{rest}; a task's record holds {MAX_RECORD_BYTES}. Write large results to a claim")
    if new.stored + beside.stored > MAX_STORED_BYTES:
        raise TooLarge(
            f"the {what} takes {new.stored} bytes as JSON beside {beside.stored} others, the store holds {MAX_STORED_BYTES}; "
            "many `<`, `>`, `&` or control characters count six times. Write large results to a claim"
        )


def new_record(claims: TokenClaims, part: dict[str, str]) -> bytes:
    """The body to create a record with one part."""
    return _encode(
        {
            "apiVersion": c.API_VERSION,
            "kind": c.RECORD_KIND,
            "metadata": {
                "name": record_name(claims.task, claims.uid),
                "namespace": claims.namespace,
                "labels": {c.LABEL_TASK_UID: claims.uid, c.LABEL_MANAGED_BY: c.MANAGED_BY},
                "ownerReferences": [
                    {
                        "apiVersion": c.API_VERSION,
                        "kind": c.TASK_KIND,
                        "name": claims.task,
                        "uid": claims.uid,
                        "controller": True,
                        "blockOwnerDeletion": False,
                    }
                ],
            },
            "task": claims.task,
            "taskUID": claims.uid,
            "attempt": claims.attempt,
            **part,
        }
    )


def record_patch(claims: TokenClaims, version: str, part: dict[str, str], *, drop_output: bool) -> bytes:
    """The merge patch of one part; an output of an earlier attempt goes with that attempt."""
    body: dict[str, Any] = {"metadata": {"resourceVersion": version}, "attempt": claims.attempt}
    if drop_output:
        body["output"] = None
    return _encode(body | part)


def checkpoint_part(body: bytes) -> dict[str, str]:
    """The checkpoint as the record has it."""
    return {"checkpoint": base64.b64encode(body).decode()}
