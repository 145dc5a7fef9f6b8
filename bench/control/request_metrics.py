"""Writes by verb and resource out of the API server's `apiserver_request_total` (Prometheus text format)."""

import re
from collections import Counter
from typing import Final

WRITES: Final = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"})
UNRELATED: Final = frozenset({"leases", "tokenreviews", "subjectaccessreviews"})
"""Heartbeats and the questions of delegated authentication: no task causes them."""
_LINE: Final = re.compile(r"^apiserver_request_total\{(?P<labels>.*)\} (?P<count>\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def writes(text: str) -> Counter[str]:
    """Requests that changed something or tried to, as `PATCH pods/status`."""
    found: Counter[str] = Counter()
    for labels, count in _requests(text):
        if labels["verb"] in WRITES and labels["resource"] not in UNRELATED:
            subresource = f"/{labels['subresource']}" if labels.get("subresource") else ""
            found[f"{labels['verb']} {labels['resource']}{subresource}"] += count
    return found


def server_errors(text: str) -> int:
    """Requests that the server answered with 5xx."""
    return sum(count for labels, count in _requests(text) if labels["code"].startswith("5"))


def refusals(text: str) -> Counter[str]:
    """Requests of writers that ended in 4xx, by code and what was asked: conflicts, throttling."""
    found: Counter[str] = Counter()
    for labels, count in _requests(text):
        if labels["verb"] in WRITES and labels["code"].startswith("4") and labels["resource"] not in UNRELATED:
            found[f"{labels['code']} {labels['verb']} {labels['resource']}"] += count
    return found


def _requests(text: str) -> list[tuple[dict[str, str], int]]:
    return [(dict(_LABEL.findall(line["labels"])), int(float(line["count"]))) for line in _LINE.finditer(text)]
