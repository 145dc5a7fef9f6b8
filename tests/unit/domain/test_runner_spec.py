"""What of a task's spec reaches the runner: nothing that only the controller honours, so that an older runner reads on."""

import msgspec
from tests.fakes.seen import spec

from agenttask.api.task import AgentTaskSpec
from agenttask.domain.runner_spec import for_runner

FULL = spec(
    queue="night",
    priority=5,
    suspend=True,
    cancel=True,
    managedBy="kueue.x-k8s.io/multikueue",
    retry={"limit": 3},
    ttlSecondsAfterFinished=5,
    device={"strategy": "smallest", "classes": ["gpu", "cpu"], "gpu": {"count": 2, "memory": "24Gi"}, "fallbackAfterSeconds": 5},
    execution={"atMostOnce": True, "maxWorkers": 3, "threading": "hybrid"},
    workspace={"persistentVolumeClaim": {"claimName": "work"}},
    softDeadlineSeconds=50,
    pod={
        "env": [{"name": "MODE", "value": "a"}],
        "labels": {"team": "a"},
        "image": "mine:1",
        "volumes": [{"name": "a", "mountPath": "/data", "emptyDir": {}}],
    },
)


def test_the_runner_is_told_what_it_honours_and_no_more() -> None:
    told = msgspec.to_builtins(for_runner(FULL))

    assert told == {
        "steps": tuple({"name": name, "read": {"paths": ("a",)}} for name in ("one", "two", "three")),
        "workspace": {"persistentVolumeClaim": {"claimName": "work"}},
        "device": {"classes": ("gpu", "cpu")},
        "execution": {"maxWorkers": 3, "threading": "hybrid"},
        "pod": {"env": ({"name": "MODE", "value": "a"},)},
        "softDeadlineSeconds": 50,
        "activeDeadlineSeconds": 100,
    }


def test_twice_is_once_and_a_plain_task_stays_as_it_is() -> None:
    assert for_runner(for_runner(FULL)) == for_runner(FULL)
    plain = msgspec.convert({"steps": [{"name": "a", "read": {"paths": ["a"]}}]}, AgentTaskSpec)
    assert msgspec.to_builtins(for_runner(plain)) == msgspec.to_builtins(plain) == {"steps": ({"name": "a", "read": {"paths": ("a",)}},)}
