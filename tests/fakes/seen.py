"""Builders of what a pass of the controller sees: a task, its pod, the observation. Times are Unix seconds after `CREATED`."""

from typing import Any

import msgspec

from agenttask.api import report as reports
from agenttask.api.meta import ObjectMeta
from agenttask.api.report import Report
from agenttask.api.task import AgentTaskSpec, AgentTaskStatus, DeviceStatus
from agenttask.domain.moment import render
from agenttask.domain.observation import Admission, Admitted, Observation, Rejection, SeenPod, SeenTask, Terminated

CREATED = 1_800_000_000.0
POD = "review-0123456789-1"
UID = "7c1f7b9e-0000-4000-8000-000000000001"


def spec(**fields: Any) -> AgentTaskSpec:
    """A spec of three `read` steps, with these fields set."""
    steps = [{"name": name, "read": {"paths": ["a"]}} for name in ("one", "two", "three")]
    return msgspec.convert({"steps": steps, "pendingDeadlineSeconds": 60, "activeDeadlineSeconds": 100, **fields}, AgentTaskSpec)


def task(status: AgentTaskStatus | None = None, *, deleting: bool = False, **fields: Any) -> SeenTask:
    """A task made at `CREATED`."""
    metadata = ObjectMeta(
        name="review",
        namespace="agents",
        uid=UID,
        resource_version="7",
        generation=3,
        creation_timestamp=render(CREATED),
        deletion_timestamp=render(CREATED + 1) if deleting else None,
    )
    return SeenTask(metadata=metadata, spec=spec(**fields), status=status or AgentTaskStatus())


def pod(**fields: Any) -> SeenPod:
    """A pod made a second after its task, waiting for its container; fields win."""
    usual: dict[str, Any] = {
        "name": POD,
        "uid": "pod-uid",
        "owner": UID,
        "created": CREATED + 1,
        "node": "node-1",
        "phase": "Pending",
        "device": DeviceStatus(class_="cpu", reason="cpu: needs no device"),
    }
    return SeenPod(**(usual | fields))


def running(since: float = 2.0, **fields: Any) -> SeenPod:
    """A pod whose container began so long after the task's creation."""
    return pod(phase="Running", running_since=CREATED + since, **fields)


def ended(message: str = "", *, started: float | None = 2.0, finished: float = 5.0, **fields: Any) -> SeenPod:
    """A pod whose container ended; `exit_code` and `reason` are the container's."""
    begun = None if started is None else CREATED + started
    state = {"exit_code": 0, "reason": "Completed", "message": message, "started": begun, "finished": CREATED + finished}
    state |= {name: fields.pop(name) for name in ("exit_code", "reason") if name in fields}
    return pod(**({"phase": "Succeeded" if state["exit_code"] == 0 else "Failed", "terminated": Terminated(**state)} | fields))


def said(**fields: Any) -> str:
    """A termination message of the runner."""
    return reports.encode(Report(**fields)).decode()


def seen(
    one: SeenPod | None = None, *, admission: Admission | None = None, rejection: Rejection | None = None, **fields: Any
) -> Observation:
    """The observation; without a word the task is admitted."""
    return Observation(admission=admission or Admitted(), pod=one, pod_name=POD, rejection=rejection, **fields)
