"""Which class would be next, what a class of kind `remote` makes of local models, and what of a pod says that it finds no node."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from tests.fakes.seen import CREATED, ended, pod, said, task

from agenttask.api.errors import InvalidTask
from agenttask.api.reasons import Reason
from agenttask.api.report import ErrorReport
from agenttask.api.task import AgentTaskStatus, DeviceStatus, TriedClass
from agenttask.controller.acceptance import PluginNames
from agenttask.controller.admission import Gate, check_apart, models_used
from agenttask.controller.installation import Installation
from agenttask.controller.inventory import Inventory
from agenttask.controller.next_class import next_class
from agenttask.controller.projection import project
from agenttask.controller.remote_models import models_on, not_on
from agenttask.controller.surroundings import read_model
from agenttask.controller.wire import Pod
from agenttask.domain.device import Choice, DeviceClass, DeviceRequest, Stock
from agenttask.domain.moment import render
from agenttask.domain.observation import NextClass, SeenPod

GPU = DeviceClass(name="gpu", kind="cuda", resources={"nvidia.com/gpu": 1})
MIG = DeviceClass(name="mig", kind="cuda", resources={"nvidia.com/mig-1g.5gb": 1})
CPU, REMOTE = DeviceClass(name="cpu"), DeviceClass(name="remote", kind="remote")
CLASSES = (GPU, MIG, CPU, REMOTE)
INSTALLATION = Installation(device_classes=CLASSES, default_device_classes=("gpu", "mig", "cpu"))
NAMES = PluginNames(
    step_kinds=frozenset(),
    threading=frozenset(),
    llm_clients=frozenset({"openai", "local", "scripted"}),
    model_factories=frozenset({"optimized"}),
    device_strategies=frozenset({"auto"}),
)
NOBODY = "0/1 nodes are available"


class First:
    """Takes the first wish that has stock."""

    def rank(self, request: DeviceRequest, inventory: Sequence[Stock]) -> Sequence[Choice]:
        free = {one.class_.name: one.free for one in inventory}
        return [Choice(class_=name, usable=free[name] != 0, verdict="v") for name in request.classes]


def stuck(class_: str = "gpu", **fields: Any) -> SeenPod:
    return pod(**({"device": DeviceStatus(class_=class_), "unschedulable": NOBODY} | fields))


def following(one: SeenPod, *tried: str, full: Sequence[str] = (), **fields: Any) -> NextClass | None:
    status = AgentTaskStatus(device=DeviceStatus(tried=tuple(TriedClass(class_=name, attempt=1, verdict="no") for name in tried)))
    return next_class(
        task(status, **fields),
        one,
        gate=Gate(INSTALLATION, NAMES, {"auto": First()}),
        models={},
        inventory=Inventory(CLASSES, lambda: None),
        full=dict.fromkeys(full, "the queue has enough"),
    )


def test_the_next_class_is_the_next_wish() -> None:
    assert following(stuck("gpu")) == NextClass(class_="mig")
    assert following(stuck("mig"), "gpu") == NextClass(class_="cpu")


def test_after_the_last_the_round_begins_anew() -> None:
    assert following(stuck("cpu"), "gpu", "mig") == NextClass(class_="gpu", anew=True)


def test_what_the_queue_has_enough_of_is_no_next_class() -> None:
    """With `devices: {cpu: 0}` a task that gave the GPU up would wait for a turn on the CPU that never comes."""
    assert following(stuck("gpu"), full=["mig"]) == NextClass(class_="cpu")
    assert following(stuck("gpu"), full=["mig", "cpu"]) is None


def test_a_task_of_one_class_has_no_other() -> None:
    assert following(stuck("gpu"), device={"classes": ["gpu"]}) is None


def test_a_device_that_failed_in_the_pod_has_a_next_class_too() -> None:
    broken = said(done=True, error=ErrorReport(reason=Reason.DEVICE_UNAVAILABLE, message="none", step=0))
    fell = said(done=True, error=ErrorReport(reason=Reason.STEP_FAILED, message="none", step=0))
    device = DeviceStatus(class_="gpu")

    assert following(ended(broken, exit_code=1, device=device)) == NextClass(class_="mig")
    assert following(ended(fell, exit_code=1, device=device)) is None


@pytest.mark.parametrize("fields", [{"suspend": True}, {"cancel": True}], ids=["suspended", "cancelled"])
def test_a_task_that_is_stopped_has_none(fields: dict[str, Any]) -> None:
    assert following(stuck(), **fields) is None


def test_a_pod_with_a_node_has_none() -> None:
    assert following(stuck(unschedulable=None)) is None


# ---- what of a pod says that it finds no node


def seen_pod(*conditions: dict[str, Any], claims: Any = (), made: Any = (), node: str = "", phase: str = "") -> SeenPod:
    body = {
        "metadata": {"creationTimestamp": render(CREATED)},
        "spec": {"nodeName": node, "resourceClaims": claims},
        "status": {"conditions": conditions, "resourceClaimStatuses": made, "phase": phase},
    }
    return project(msgspec.convert(body, Pod))


def condition(status: str, reason: str, message: str = "") -> dict[str, Any]:
    return {"type": "PodScheduled", "status": status, "reason": reason, "message": message, "lastTransitionTime": render(CREATED + 5)}


CLAIM = {"name": "device-0", "resourceClaimTemplateName": "one-gpu"}


def test_the_scheduler_says_so_and_since_when() -> None:
    found = seen_pod(condition("False", "Unschedulable", NOBODY))
    assert (found.unschedulable, found.unschedulable_since) == (NOBODY, CREATED + 5)


@pytest.mark.parametrize("of", [condition("False", "SchedulingGated"), condition("True", "")], ids=["gated", "placed"])
def test_a_pod_that_is_gated_or_placed_is_not_unschedulable(of: dict[str, Any]) -> None:
    found = seen_pod(of, claims=[CLAIM])
    assert (found.unschedulable, found.unschedulable_since) == (None, None)


def test_a_pod_whose_claims_nobody_makes_is_not_even_looked_at_by_the_scheduler() -> None:
    found = seen_pod(claims=[CLAIM])

    assert found.unschedulable == "no claim is made from ResourceClaimTemplate 'one-gpu' yet; see whether the namespace has it"
    assert found.unschedulable_since == CREATED
    assert seen_pod(claims=[CLAIM], made=[{"name": "device-0"}]).unschedulable is None
    assert seen_pod(claims=[CLAIM], node="n").unschedulable is None
    assert seen_pod().unschedulable is None


def unready(status: str = "False") -> dict[str, Any]:
    return {"type": "PodReadyToStartContainers", "status": status, "lastTransitionTime": render(CREATED + 7)}


PLACED = condition("True", "")


@pytest.mark.parametrize(
    ("conditions", "claims", "since"),
    [
        ([PLACED, unready()], [CLAIM], CREATED + 5),
        ([PLACED, unready("True")], [CLAIM], None),
        ([PLACED], [CLAIM], None),
        ([condition("False", "Unschedulable"), unready()], [CLAIM], None),
        ([PLACED, unready()], [], None),
    ],
    ids=["no sandbox", "a sandbox", "its kubelet says nothing", "not placed", "no claims"],
)
def test_a_pod_with_claims_and_a_node_but_no_sandbox_may_wait_for_its_device(conditions: Any, claims: Any, since: float | None) -> None:
    assert seen_pod(*conditions, claims=claims, node="n", phase="Pending").unprepared_since == since
    assert seen_pod(*conditions, claims=claims, node="n", phase="Running").unprepared_since is None


# ---- remote


def models(**specs: dict[str, Any]) -> Any:
    return {name: read_model({"model": "m", **one}) for name, one in specs.items()}


ENDPOINT = {"client": "openai", "endpoint": "https://models.example/v1", "credentials": {"secretKeyRef": {"name": "key", "key": "k"}}}
LOCAL = {"client": "local", "local": {"package": "weights", "remoteModel": "large"}, "fallback": ["other"]}
ASK = [{"name": "ask", "chat": {"model": "small", "prompt": "x"}}]
PLAIN = {"client": "scripted"}


def test_on_a_remote_class_a_local_model_is_what_it_names_under_its_own_name() -> None:
    seen = models(small=LOCAL, large=ENDPOINT, other=PLAIN)
    wanted = task(steps=ASK).spec
    assert wanted is not None
    used = models_used(wanted, seen)

    there = models_on(REMOTE, used, seen)

    assert list(there) == ["small", "other"]
    assert (there["small"].client, there["small"].fallback) == ("openai", ("other",))
    assert there["small"].credentials == seen["large"].spec.credentials
    assert models_on(CPU, used, seen) == models_on(None, used, seen) == used


@pytest.mark.parametrize(
    ("specs", "why"),
    [
        ({"small": LOCAL, "large": ENDPOINT, "other": PLAIN}, None),
        ({"small": PLAIN}, None),
        ({"small": {"client": "local", "local": {"package": "w"}}}, "AgentModel 'small' is local and names no remoteModel"),
        ({"small": LOCAL, "other": PLAIN}, "there is no AgentModel 'large', the remoteModel of 'small'"),
        ({"small": LOCAL, "other": PLAIN, "large": LOCAL}, "AgentModel 'large', the remoteModel of 'small', is local itself"),
        (
            {"small": LOCAL, "other": PLAIN, "large": {"client": 5}},
            "AgentModel 'large', the remoteModel of 'small', cannot be read: ",
        ),
    ],
    ids=["there", "no local model", "none named", "absent", "local", "unreadable"],
)
def test_a_remote_class_is_passed_over_where_a_local_model_is_nowhere_else(specs: dict[str, Any], why: str | None) -> None:
    seen = models(**specs)
    wanted = task(steps=ASK).spec
    assert wanted is not None
    used = models_used(wanted, seen)

    found = not_on(REMOTE, wanted, used, seen)

    assert found == why or (found is not None and why is not None and found.startswith(why))
    assert not_on(CPU, wanted, used, seen) is None


def test_a_class_with_a_runtime_of_its_own_is_not_for_tasks_that_want_another() -> None:
    nvidia = DeviceClass(name="gpu", kind="cuda", runtime_class_name="nvidia")
    for runtime, why in (("gvisor", "needs runtime class 'nvidia', pod.runtimeClassName is 'gvisor'"), ("nvidia", None), (None, None)):
        wanted = task(pod={"runtimeClassName": runtime} if runtime else {}).spec
        assert wanted is not None
        assert not_on(nvidia, wanted, {}, {}) == why


# ---- what belongs to models


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"workspace": {"persistentVolumeClaim": {"claimName": "weights"}}},
            "spec.workspace.persistentVolumeClaim: the claim 'weights'",
        ),
        (
            {"pod": {"volumes": [{"name": "a", "mountPath": "/data", "persistentVolumeClaim": {"claimName": "weights"}}]}},
            "spec.pod.volumes[0].persistentVolumeClaim: the claim 'weights' holds the weights of AgentModel 'small'",
        ),
        (
            {"pod": {"volumes": [{"name": "a", "mountPath": "/data", "secret": {"secretName": "key"}}]}},
            "spec.pod.volumes[0].secret.secretName: the Secret 'key' holds the credential of AgentModel 'large'",
        ),
        ({"pod": {"imagePullSecrets": [{"name": "key"}]}}, "spec.pod.imagePullSecrets[0].name: the Secret 'key' holds the credential"),
    ],
    ids=["workspace", "volume", "secret", "pull secret"],
)
def test_what_belongs_to_a_model_is_not_the_tasks_to_take(fields: dict[str, Any], words: str) -> None:
    claimed = {"client": "local", "local": {"persistentVolumeClaim": {"claimName": "weights"}}}
    wanted = task(**fields).spec
    assert wanted is not None

    with pytest.raises(InvalidTask) as caught:
        check_apart(wanted, models(small=claimed, large=ENDPOINT))

    assert str(caught.value).startswith(words)


def test_weights_may_be_read() -> None:
    claimed = {"client": "local", "local": {"persistentVolumeClaim": {"claimName": "weights"}}}
    claim = {"claimName": "weights"}
    wanted = task(
        inputs=[{"name": "w", "persistentVolumeClaim": claim}],
        pod={"volumes": [{"name": "a", "mountPath": "/data", "persistentVolumeClaim": claim, "readOnly": True}]},
    ).spec
    assert wanted is not None
    check_apart(wanted, models(small=claimed))


@pytest.mark.parametrize(
    ("spec", "phase", "asked"),
    [
        ({"containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]}, "Failed", True),
        ({"containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]}, "Pending", False),
        ({"containers": [{"resources": {"limits": {"cpu": "1"}}}]}, "Failed", False),
        ({"resourceClaims": [CLAIM]}, "Failed", True),
        ({}, "Failed", False),
    ],
)
def test_of_a_pod_that_failed_it_is_known_whether_it_asked_for_devices(spec: dict[str, Any], phase: str, asked: bool) -> None:
    assert project(msgspec.convert({"spec": spec, "status": {"phase": phase}}, Pod)).has_devices is asked
