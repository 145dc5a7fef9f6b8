"""What a task may say of its pod in any installation: where volumes lie, which labels and annotations it may set."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask.api.errors import InvalidTask
from agenttask.api.pod_options import PodOptions
from agenttask.domain.pod_rules import MAX_ANNOTATION_BYTES, RESERVED_DOMAINS, check_pod, reserved, volume_place


def pod(**fields: Any) -> PodOptions:
    return msgspec.convert(fields, PodOptions)


def problem(**fields: Any) -> str:
    with pytest.raises(InvalidTask) as caught:
        check_pod(pod(**fields))
    return str(caught.value)


@pytest.mark.parametrize("path", ["/data", "/data/x", "/srv", "/srv/a.b/c", "/mnt/x", "/mnt/models-of-mine"])
def test_a_volume_lies_where_neither_image_nor_runner_has_anything(path: str) -> None:
    assert volume_place(path) is None


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/mnt",
        "/mnt/models",
        "/mnt/models/x",
        "/workspace",
        "/tmp",
        "/inputs/a",
        "/etc/agenttask",
        "/opt/agenttask",
        "/usr",
        "/database",
    ],
)
def test_a_volume_lies_over_nothing_that_is_there(path: str) -> None:
    assert "is not a task's to mount over; take /data, /srv, or a folder below /mnt" in (volume_place(path) or "")


@pytest.mark.parametrize("path", ["/data/../etc", "/data/./x", "/data/", "/srv//x", "/mnt/x/.."])
def test_a_path_that_is_not_plain_is_refused(path: str) -> None:
    assert "is no plain path" in (volume_place(path) or "")


@given(st.lists(st.sampled_from(["..", ".", "", "data", "mnt", "models", "srv", "etc", "workspace", "x"]), min_size=1, max_size=6))
def test_no_allowed_path_leaves_its_root(parts: list[str]) -> None:
    path = "/" + "/".join(parts)
    if volume_place(path) is None:
        assert path.split("/")[1] in ("data", "srv", "mnt")
        assert not {"..", ".", ""} & set(path.split("/")[1:])
        assert path.split("/")[1:3] not in (["mnt"], ["mnt", "models"])


@pytest.mark.parametrize(
    ("volumes", "words"),
    [
        (
            [{"name": "a", "mountPath": "/data"}],
            "spec.pod.volumes[0]: exactly one of emptyDir, persistentVolumeClaim, configMap and secret is needed, none",
        ),
        (
            [{"name": "a", "mountPath": "/data", "emptyDir": {}}, {"name": "a", "mountPath": "/srv", "emptyDir": {}}],
            "spec.pod.volumes[1].name: 'a' is the name of spec.pod.volumes[0] too",
        ),
        (
            [{"name": "a", "mountPath": "/data/x", "emptyDir": {}}, {"name": "b", "mountPath": "/data", "emptyDir": {}}],
            "spec.pod.volumes[1].mountPath: '/data' and '/data/x', of spec.pod.volumes[0], lie in each other",
        ),
    ],
    ids=["no source", "name twice", "inside each other"],
)
def test_volumes_contradict_each_other(volumes: list[dict[str, Any]], words: str) -> None:
    assert problem(volumes=volumes).startswith(words)


@pytest.mark.parametrize("domain", RESERVED_DOMAINS)
def test_domains_of_others_are_not_a_tasks_to_write(domain: str) -> None:
    for key in (f"{domain}/x", f"some.{domain}/x"):
        assert reserved(key)
        assert problem(labels={key: "v"}).startswith(f"spec.pod.labels: {key!r} is not a task's to set")
        assert problem(annotations={key: "v"}).startswith(f"spec.pod.annotations: {key!r} is not a task's to set")


@pytest.mark.parametrize(
    "key",
    [
        "kueue.x-k8s.io/queue-name",
        "k8s.v1.cni.cncf.io/networks",
        "container.apparmor.security.beta.kubernetes.io/a",
        "iam.amazonaws.com/role",
        "instrumentation.opentelemetry.io/inject-python",
        "devices.noderesource.dev/container.runner",
        "io.kubernetes.cri-o.Devices",
        "io.katacontainers.config.hypervisor.path",
        "dev.gvisor.flag.network",
    ],
)
def test_well_known_keys_are_among_them(key: str) -> None:
    assert reserved(key)
    assert "is not a task's to set" in problem(annotations={key: "v"})


@pytest.mark.parametrize("key", ["team", "example.com/team", "notkubernetes.io/x", "my-k8s.io/x", "kubernetes.io.example.com/x"])
def test_other_domains_are_the_tasks_own(key: str) -> None:
    check_pod(pod(labels={key: "v", "empty": ""}, annotations={key: "any\ntext €"}))


@pytest.mark.parametrize("key", ["", "/x", "a/b/c", "Example.com/x", "-x", "x" * 64, "a b", f"{'a' * 254}/x"])
def test_a_key_that_kubernetes_does_not_know_is_refused(key: str) -> None:
    assert "is no name that Kubernetes knows" in problem(annotations={key: "v"})


@pytest.mark.parametrize("value", ["a b", "-a", "a-", "ä"])
def test_a_value_that_no_label_can_have_is_refused(value: str) -> None:
    assert "is no label value" in problem(labels={"team": value})


def test_annotations_fit_beside_the_document() -> None:
    check_pod(pod(annotations={f"k{n}": "v" * 4000 for n in range(8)}))
    assert f"at most {MAX_ANNOTATION_BYTES} fit beside ours" in problem(annotations={f"k{n}": "€" * 1400 for n in range(8)})
