"""The real API server takes what our types take and refuses what they refuse: at each bound of each field, and of random objects.

Objects are created dry: nothing is stored.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from tests.fakes.kubectl import Kubectl
from tests.unit.controller.test_pod_options import OPEN
from tests.unit.crds.schema_objects import KINDS, UNICODE, body, edges, specs
from tests.unit.crds.test_schema_edges import refusal
from tests.unit.crds.test_validate_agrees import problems

from agenttask.api.errors import AgentTaskError
from agenttask.api.steps import STEP_KINDS
from agenttask.api.task import DeviceStatus
from agenttask.controller.kube import KubeClient
from agenttask.controller.kube_errors import Forbidden, Invalid
from agenttask.controller.kube_paths import pods_path
from agenttask.controller.login import Connection, find_credentials
from agenttask.controller.pod import PodRequest, build
from agenttask.controller.task_cache import read_task
from agenttask.controller.verify import verify
from agenttask.domain.validation import validate

pytestmark = pytest.mark.cluster
AT_ONCE = 8
RANDOM_OBJECTS = 60
ATTEMPTS = [1, 99, 2**31]
UID = "0f5c3b1e-7a52-4d8b-9c3e-1f2a3b4c5d6e"


@pytest.fixture
async def client(kubectl: Kubectl) -> AsyncIterator[KubeClient]:
    """A client of the cluster whose CRDs are of this checkout."""
    async with Connection(await find_credentials(os.environ)) as connection:
        yield KubeClient(connection.session, connection.server)


async def answers(client: KubeClient, path: str, documents: Mapping[str, dict[str, Any]]) -> dict[str, str | None]:
    """What the server says against each document, or None."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def ask(document: dict[str, Any]) -> str | None:
        async with slots:
            try:
                await client.create(f"{path}?dryRun=All&fieldValidation=Strict", msgspec.json.encode(document))
            except (Invalid, Forbidden) as refused:
                return refused.message
            return None

    found = await asyncio.gather(*(ask(document) for document in documents.values()))
    return dict(zip(documents, found, strict=True))


def place(kubectl: Kubectl, plural: str) -> str:
    return f"/apis/agenttask.dev/v1alpha1/namespaces/{kubectl.namespace}/{plural}"


@pytest.mark.parametrize("plural", KINDS)
async def test_each_bound_of_a_type_is_one_of_the_server(client: KubeClient, kubectl: Kubectl, plural: str) -> None:
    wanted = {str(edge): edge for edge in edges(plural)}
    told = await answers(client, place(kubectl, plural), {what: edge.body for what, edge in wanted.items()})
    assert {what: why for what, why in told.items() if wanted[what].valid == (why is not None)} == {}


def generated(plural: str) -> list[dict[str, Any]]:
    """Random objects; the same ones for the same version of the schema."""
    found: list[dict[str, Any]] = []

    @settings(
        max_examples=RANDOM_OBJECTS,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(spec=specs(plural))
    def draw(spec: dict[str, Any]) -> None:
        found.append(body(plural, spec))

    draw()
    return found


@pytest.mark.parametrize("plural", KINDS)
async def test_server_types_and_validation_agree_on_random_objects(client: KubeClient, kubectl: Kubectl, plural: str) -> None:
    """What the server takes our types take, and what `agenttask validate` finds right the server takes."""
    documents = {str(number): document for number, document in enumerate(await asyncio.to_thread(generated, plural))}
    told = await answers(client, place(kubectl, plural), documents)
    for number, why in told.items():
        if why is None:
            assert refusal(plural, documents[number]) is None
        else:
            assert problems(documents[number]), why
    assert None in told.values()


async def test_names_as_long_as_they_may_be(client: KubeClient, kubectl: Kubectl) -> None:
    """Whatever name the server takes for a task is one that its pod and the pod's labels are named after."""
    random_names = random.Random(7)
    letters = "abcxyz0189"
    middle = letters + "-."
    names = {
        "a",
        "0",
        "a" * 253,
        "a." * 126 + "a",
        "-".join("a" * 127),
        "a" * 63,
        "a" * 64,
        "a-.b",
        "A",
        "a_b",
        "-a",
        UNICODE[:5],
        "a" * 254,
    }
    for _ in range(60):
        length = random_names.choice((1, 2, 10, 62, 63, 64, 120, 252, 253, 254))
        names.add(random_names.choice(letters) + "".join(random_names.choice(middle) for _ in range(length)))
    spec = {"steps": [{"name": "a", "exec": {"command": ["true"]}}]}
    told = await answers(client, place(kubectl, "agenttasks"), {name: body("agenttasks", spec, name) for name in sorted(names)})
    taken = [name for name, why in told.items() if why is None]
    assert len(taken) > 10
    pods = {name: pod(body("agenttasks", spec, name), attempt) for attempt, name in zip(ATTEMPTS * len(taken), taken, strict=False)}
    refused = await answers(client, pods_path(kubectl.namespace), pods)
    assert {name: why for name, why in refused.items() if why is not None} == {}


async def test_the_pod_of_any_task_that_is_valid_is_one_for_the_server(client: KubeClient, kubectl: Kubectl) -> None:
    """Whatever a task says within its schema: it is refused by us, or its pod is one that the server takes."""
    pods = {}
    for number, document in enumerate(await asyncio.to_thread(generated, "agenttasks")):
        with suppress(AgentTaskError):
            pods[str(number)] = pod(document, 1)
    refused = await answers(client, pods_path(kubectl.namespace), pods)
    assert {number: why for number, why in refused.items() if why is not None} == {}
    assert len(pods) >= RANDOM_OBJECTS // 6


def pod(document: dict[str, Any], attempt: int) -> dict[str, Any]:
    """What the controller would send for an attempt of this task in an installation that allows everything."""
    task = read_task(document | {"metadata": document["metadata"] | {"namespace": "crds-test", "uid": UID}})
    assert task is not None
    assert task.spec is not None
    validate(task.spec, step_kinds=(*STEP_KINDS, task.spec.steps[0].kind))
    request = PodRequest(
        task=task, spec=task.spec, attempt=attempt, models={}, device=DeviceStatus(class_="cpu"), device_class=None, environment={}
    )
    made = build(request, OPEN)
    verify(made, OPEN)
    body: dict[str, Any] = msgspec.json.decode(made)
    del body["metadata"]["namespace"]
    return body
