"""How a finished pod ended, as one typed reason: the report first, then what kubelet and control plane say.

The report is hostile input: whoever owns the image writes it. It can say how the steps went, and no more than that.
"""

from typing import Final

from msgspec import Struct

from agenttask.api.reasons import TERMINAL_REASONS, Reason
from agenttask.api.report import MalformedReport, Report, decode
from agenttask.domain.observation import SeenPod, StoredOutput, Terminated
from agenttask.domain.waiting import NO_ENTRY_POINT

_FROM_RUNNER: Final = frozenset(TERMINAL_REASONS) - {
    Reason.SUCCEEDED,
    Reason.PENDING_DEADLINE_EXCEEDED,
    Reason.POD_REJECTED,
    Reason.IMAGE_ERROR,
    Reason.RUNNER_CRASHED,
    Reason.BACKOFF_LIMIT_EXCEEDED,
    Reason.INFRASTRUCTURE_LIMIT_EXCEEDED,
    Reason.CANCELLED_BY_USER,
}
_TAKEN_AWAY: Final = frozenset({"Evicted", "NodeLost", "NodeShutdown", "Shutdown", "Terminated", "Preempting", "Preempted"})
_ALLOCATION: Final = frozenset({"UnexpectedAdmissionError", "TopologyAffinityError"})
_TOO_FEW: Final = "OutOf"
"""And the resource's name, as `OutOfnvidia.com/gpu`."""
_KUBELET_DEADLINE: Final = "DeadlineExceeded"
_NOT_FOUND: Final = "ContainerStatusUnknown"
_NOT_STARTED: Final = frozenset({"StartError", "ContainerCannotRun"})
_STAMPS_DIFFER: Final = 2.0
"""The time of a deletion is in whole seconds, and our clock is within one second of the API server's (controller/server_clock.py)."""
SIGKILL_EXIT: Final = 137
SIGTERM_EXIT: Final = 143
_SIGNAL_BASE: Final = 128
_NOT_STORED: Final = (
    "the runner said that the output is stored, and no AgentTaskRecord has it of this attempt: somebody deleted it, or the pod's image has "
    "another runner than ours; run the task again"
)


class Outcome(Struct, frozen=True, kw_only=True):
    """The end of an attempt; `report` is what the runner told, as far as it got."""

    reason: Reason
    message: str = ""
    report: Report | None = None


def too_long(seconds: int) -> str:
    """The message of a task that ran into its deadline."""
    return f"the task ran longer than activeDeadlineSeconds ({seconds} s); raise it, or give the task less to do"


def of(pod: SeenPod, *, deadline: float | None, seconds: int, stored: StoredOutput | None = None, disbelieved: str = "") -> Outcome:
    """The end of a pod that has finished; `deadline` is when it should have ended at the latest, `seconds` after its start.

    `stored` is the output that the attempt handed over besides its report, if it did; `disbelieved` is why an object that it names is not.
    """
    report = report_of(pod)
    done = report is not None and report.done
    error = report.error if report is not None and report.done else None
    if done and error is None and not _killed(pod):
        if report is not None and report.handed_over and stored is None:
            return Outcome(reason=Reason.RUNNER_CRASHED, message=disbelieved or _NOT_STORED, report=report)
        return Outcome(reason=Reason.SUCCEEDED, report=report)
    if late(pod, deadline) and (error is None or error.reason is Reason.LOST):
        last = f"; the runner's last word: {error.message}" if error is not None else ""
        return Outcome(reason=Reason.DEADLINE_EXCEEDED, message=f"{too_long(seconds)}{last}", report=report)
    if error is not None:
        reason = error.reason if error.reason in _FROM_RUNNER else Reason.RUNNER_CRASHED
        taken = reason is Reason.LOST and (pod.deletion is not None or pod.gone)
        return Outcome(reason=reason, message=f"pod {pod.name} was deleted: {error.message}" if taken else error.message, report=report)
    reason, message = _without_report(pod)
    return Outcome(reason=reason, message=message, report=report)


def _killed(pod: SeenPod) -> bool:
    """Whether a signal ended the runner: a command can write a report too, and then exhaust the container's memory."""
    return pod.terminated is not None and pod.terminated.exit_code > _SIGNAL_BASE


def fate_known(pod: SeenPod) -> bool:
    """Whether it can be said how far the pod's container came: it told its end, or it certainly never began.

    That no start was seen proves nothing once a node had the pod: the node may have lost its network, or the watch a minute. Of a container
    that the kubelet cannot find it knows nothing either, unless it was told to stop the pod itself.
    """
    if pod.terminated is not None:
        return pod.terminated.reason != _NOT_FOUND or pod.deletion is not None
    return pod.started is None and (not pod.node or (pod.phase == "Failed" and not pod.disrupted))


def never_started(pod: SeenPod) -> bool:
    """Whether the kubelet ended the pod at the pod's own deadline, which holds for waiting too, and its container had not begun."""
    return pod.started is None and pod.reason == _KUBELET_DEADLINE


def refused_device(pod: SeenPod) -> bool:
    """Whether its node could not give the pod its device: none of them is healthy, say, or its plugin fails."""
    return pod.has_devices and (pod.reason in _ALLOCATION or (pod.reason.startswith(_TOO_FEW) and "/" in pod.reason))


def report_of(pod: SeenPod) -> Report | None:
    """The last report of this attempt, if the container left one."""
    if pod.terminated is None or not pod.terminated.message:
        return None
    try:
        report = decode(pod.terminated.message)
    except MalformedReport:
        return None
    return report if report.attempt == pod.attempt else None


def late(pod: SeenPod, deadline: float | None) -> bool:
    """Whether the deadline ended it: the kubelet says so, or it was deleted at its deadline.

    That is told by the deletion's own time, for a container's end has its node's clock, and the container that is stopped at
    once would have ended before the deadline if that clock is a second behind.
    """
    if pod.reason == _KUBELET_DEADLINE:
        return True
    if deadline is None or not (pod.gone or pod.deletion is not None):
        return False
    end = pod.terminated.finished if pod.terminated is not None else None
    ended = end if end is not None else pod.deletion
    return (ended is not None and ended >= deadline) or (pod.deleted is not None and pod.deleted >= deadline - _STAMPS_DIFFER)


def _without_report(pod: SeenPod) -> tuple[Reason, str]:
    """The reason from outside, where the runner left none."""
    end = pod.terminated
    if end is not None and end.reason == "OOMKilled":
        return Reason.OUT_OF_MEMORY, "the container was killed for its memory; raise pod.resources.limits.memory"
    if pod.reason in _TAKEN_AWAY or pod.disrupted or (end is not None and end.reason == _NOT_FOUND):
        return Reason.LOST, f"pod {pod.name} was taken away: {pod.message or pod.reason or 'its node does not know it any more'}"
    if pod.gone or pod.deletion is not None:
        return Reason.LOST, f"pod {pod.name} was deleted before it reported"
    if end is not None:
        return _crash(end)
    if pod.phase == "Failed":
        refused = Reason.DEVICE_UNAVAILABLE if refused_device(pod) else Reason.POD_REJECTED
        return refused, f"node {pod.node or 'unknown'} refused the pod: {pod.reason}: {pod.message}".rstrip(": ")
    return Reason.RUNNER_CRASHED, "the pod ended without a report"


def _crash(end: Terminated) -> tuple[Reason, str]:
    """The container ended by itself, without a word."""
    if end.reason in _NOT_STARTED:
        if "OOM" in end.message:
            return Reason.OUT_OF_MEMORY, f"the memory limit is too low to start the container: {end.message}"
        hint = "the image lacks the command `agenttask-runner`: " if any(sign in end.message for sign in NO_ENTRY_POINT) else ""
        return Reason.IMAGE_ERROR, f"{hint}{end.message}"
    if end.exit_code == SIGKILL_EXIT:
        return (
            Reason.OUT_OF_MEMORY,
            "the runner was killed (exit code 137, SIGKILL), most often for memory; raise pod.resources.limits.memory",
        )
    if end.exit_code == SIGTERM_EXIT:
        return Reason.LOST, "the runner was stopped from outside (exit code 143, SIGTERM) and had no time to report"
    how = f"exit code {end.exit_code}" + (f", signal {end.exit_code - _SIGNAL_BASE}" if end.exit_code > _SIGNAL_BASE else "")
    return Reason.RUNNER_CRASHED, f"the runner ended without a final report ({how}); see the pod's log"
