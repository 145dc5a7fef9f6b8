"""The termination message: the report on disk after every step, one write each, so that it survives SIGKILL.

The file is a bind mount of the kubelet's: it can be neither replaced nor renamed. A shorter report leaves the tail of
an older one behind; the length in front of the payload tells a reader where ours ends (api/report.py).
"""

import os
from pathlib import Path
from typing import Protocol

import msgspec

from agenttask.api.constants import MAX_REPORT_BYTES
from agenttask.api.errors import OutputTooLarge
from agenttask.api.report import Report, ReportTooLarge, encode
from agenttask.domain.utf8 import utf8_length


class ReportChannel(Protocol):
    """Where a run's report goes."""

    def write(self, report: Report) -> None:
        """Put this report in the place of the one before.

        Raises:
            OutputTooLarge: its output does not fit; the report before stands.
        """
        ...


class LastReport:
    """A channel in memory, for runs outside of a pod; any output fits."""

    def __init__(self) -> None:
        self.report = Report()

    def write(self, report: Report) -> None:
        """Keep it."""
        self.report = report


class TerminationFile:
    """A channel into the pod's termination message."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def write(self, report: Report) -> None:
        """One write at offset 0."""
        os.pwrite(self._descriptor, fitting(report), 0)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)


def fitting(report: Report) -> bytes:
    """The encoded report; messages give way, an output never does.

    Raises:
        OutputTooLarge: with the output's size and how much would fit.
    """
    report, output = well_formed(report), report.output
    if output is not None and len(output) > MAX_REPORT_BYTES:  # known without a copy of it, which may be large
        room = len(encode(msgspec.structs.replace(report, output="")))
        raise OutputTooLarge(_too_large(utf8_length(output), fits=MAX_REPORT_BYTES - room))
    while True:
        try:
            return encode(report)
        except ReportTooLarge as error:
            if report.output is not None:
                size = len(report.output.encode())
                raise OutputTooLarge(_too_large(size, fits=size - (error.size - error.limit))) from error
            # Only an error's escapes can make a report without output too long: one control character takes six bytes.
            assert report.error is not None
            shorter = report.error.message[: len(report.error.message) // 2] + "…"
            report = msgspec.structs.replace(report, error=msgspec.structs.replace(report.error, message=shorter))


def _too_large(size: int, *, fits: int) -> str:
    return (
        f"the output has {size} bytes, {max(0, fits)} fit beside the steps in the {MAX_REPORT_BYTES} bytes of the result channel; "
        "let `output` name a shorter text"
    )


def well_formed(report: Report) -> Report:
    """Messages without the lone surrogates of undecodable file names, which JSON cannot carry."""
    steps = tuple(msgspec.structs.replace(step, message=_valid(step.message)) for step in report.steps)
    error = report.error
    if error is not None:
        error = msgspec.structs.replace(error, message=_valid(error.message))
    return msgspec.structs.replace(report, steps=steps, error=error)


def _valid(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
