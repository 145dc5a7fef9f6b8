"""What contenders are given: AgentTasks of one small step, and Jobs whose pods have the very spec of our tasks' pods."""

import json
from pathlib import Path
from typing import Any, Final

import yaml

from agenttask.api.constants import API_VERSION, GROUP, TASK_KIND, TASK_PLURAL, VERSION

NAME: Final = "@NAME@"
"""Stands for the object's name in a body."""
NAMESPACE: Final = "bench"
PODS: Final = f"/api/v1/namespaces/{NAMESPACE}/pods"
TASKS: Final = f"/apis/{GROUP}/{VERSION}/namespaces/{NAMESPACE}/{TASK_PLURAL}"
JOBS: Final = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
CRDS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
MISSING: Final = "not-there"
"""A ConfigMap that nobody makes: tasks that mount it wait."""
_GIVEN_BY_SERVER: Final = ("nodeName", "serviceAccount", "priority", "preemptionPolicy")
_PROMPT: Final = "Summarise the attached incident report in five bullet points and list the owners."


def task(*, waiting: bool = False) -> bytes:
    """An AgentTask; with `waiting` one whose input is not there."""
    steps = [{"name": "report", "write": {"path": "report.txt", "content": _PROMPT}}]
    inputs = {"inputs": [{"name": "report", "configMap": {"name": MISSING}}]} if waiting else {}
    spec = {"steps": steps, "output": "done", **inputs}
    return _body({"apiVersion": API_VERSION, "kind": TASK_KIND, "metadata": {"name": NAME, "namespace": NAMESPACE}, "spec": spec})


def job(pod: dict[str, Any]) -> bytes:
    """A Job that runs what this pod of ours runs: same spec, same labels and annotations, no retries."""
    metadata = {"annotations": pod["metadata"].get("annotations", {}), "labels": {"app": "bench"}}
    spec = {"backoffLimit": 0, "template": {"metadata": metadata, "spec": pod_spec(pod)}}
    return _body({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": NAME, "namespace": NAMESPACE}, "spec": spec})


def bare_pod(pod: dict[str, Any]) -> bytes:
    """The pod as its own creator would send it, without an owner."""
    metadata = {"name": NAME, "namespace": NAMESPACE, "annotations": pod["metadata"].get("annotations", {}), "labels": {"app": "bench"}}
    return _body({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec(pod)})


def pod_spec(pod: dict[str, Any]) -> dict[str, Any]:
    """The spec of a pod that ran, without what only a server may have put there."""
    return {key: value for key, value in pod["spec"].items() if key not in _GIVEN_BY_SERVER}


def crds(folder: Path) -> list[bytes]:
    """The CRDs of this checkout, ready to POST."""
    return [json.dumps(yaml.safe_load(file.read_text())).encode() for file in sorted(folder.glob("*.yaml"))]


def bare_crd(group: str) -> bytes:
    """AgentTask in another group, with an open schema and no rule: what an API server does to any object of a CRD."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "selectableFields": [{"jsonPath": ".status.phase"}],
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "properties": {"spec": anything, "status": {**anything, "properties": {"phase": {"type": "string"}}}},
            }
        },
    }
    names = {"kind": TASK_KIND, "listKind": f"{TASK_KIND}List", "plural": TASK_PLURAL, "singular": TASK_KIND.lower()}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    return _body(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{TASK_PLURAL}.{group}"},
            "spec": spec,
        }
    )


def named(body: bytes, name: str) -> bytes:
    """The body of this name."""
    return body.replace(NAME.encode(), name.encode())


def _body(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
