"""What a task may say of its pod besides types and bounds: where volumes lie, which labels and annotations are its own.

Other programs of a cluster act on labels and annotations of pods (service meshes, network plugins, Kueue, the kubelet):
the domains of those that widen what a pod can do are not a task's to write.
"""

import re
from collections.abc import Mapping, Sequence
from posixpath import normpath
from typing import Final

from agenttask.api.constants import GROUP, MODELS_PATH
from agenttask.api.errors import InvalidTask
from agenttask.api.pod_options import PodOptions, PodVolume
from agenttask.domain.nearest import quoted

RESERVED_DOMAINS: Final = (
    GROUP,
    "kubernetes.io",
    "k8s.io",
    "x-k8s.io",
    "cncf.io",
    "istio.io",
    "linkerd.io",
    "openshift.io",
    "amazonaws.com",
    "azure.workload.identity",
    "hashicorp.com",
    "opentelemetry.io",
    "dapr.io",
    "nri.io",
    "noderesource.dev",
)
"""With all that is below them. `x-k8s.io` is Kueue's, `k8s.v1.cni.cncf.io` attaches networks, `iam.amazonaws.com` and
`azure.workload.identity` give a cloud's rights, `hashicorp.com`, `opentelemetry.io` and `dapr.io` put containers and variables into
the pod, `nri.io` and `noderesource.dev` devices."""
MAX_ANNOTATION_BYTES: Final = 32 * 1024
"""All of a task's own: a pod has 256 KiB, and the task document may take 200."""
VOLUME_ROOTS: Final = ("/data", "/srv", "/mnt")
_NAME: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_DOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_MAX_DOMAIN: Final = 253


def check_pod(pod: PodOptions, field: str = "spec.pod") -> None:
    """Refuse what no installation allows.

    Raises:
        InvalidTask: with the field's path.
    """
    _volumes(pod.volumes, f"{field}.volumes")
    for where, texts in (("labels", pod.labels), ("annotations", pod.annotations)):
        for key in texts:
            _key(key, f"{field}.{where}")
    for key, value in pod.labels.items():
        if value and not _NAME.fullmatch(value):
            problem = (
                f"{quoted(value)}, the value of {quoted(key)}, is no label value: letters, digits, - _ . with letters or digits at its ends"
            )
            raise InvalidTask(f"{field}.labels", problem)
    size = _bytes(pod.annotations)
    if size > MAX_ANNOTATION_BYTES:
        raise InvalidTask(f"{field}.annotations", f"have {size} bytes, at most {MAX_ANNOTATION_BYTES} fit beside ours; shorten them")


def reserved(key: str) -> bool:
    """Whether a label or annotation is Kubernetes', ours, or of a program that acts on pods.

    Container runtimes read dotted names without a domain: `io.kubernetes.cri-o.Devices`, `io.katacontainers.config.hypervisor.path`,
    `dev.gvisor.flag.network`.
    """
    domain, slash, _ = key.partition("/")
    if not slash:
        return "." in key
    return any(domain == one or domain.endswith(f".{one}") for one in RESERVED_DOMAINS)


def volume_place(path: str) -> str | None:
    """Why a volume may not be mounted there, or None."""
    folders = path.split("/")
    if normpath(path) != path or ".." in folders or "." in folders:
        return f"{quoted(path)} is no plain path; write it without . and .., and without a slash at its end"
    root = next((one for one in VOLUME_ROOTS if path == one or path.startswith(f"{one}/")), None)
    if root is None or path == "/mnt" or f"{path}/".startswith(f"{MODELS_PATH}/"):
        return f"{quoted(path)} is not a task's to mount over; take /data, /srv, or a folder below /mnt other than {MODELS_PATH}"
    return None


def _volumes(volumes: Sequence[PodVolume], field: str) -> None:
    for index, one in enumerate(volumes):
        where = f"{field}[{index}]"
        given = [source for source in (one.empty_dir, one.persistent_volume_claim, one.config_map, one.secret) if source is not None]
        if len(given) != 1:
            what = f"{len(given)} are given" if given else "none is given"
            raise InvalidTask(where, f"exactly one of emptyDir, persistentVolumeClaim, configMap and secret is needed, {what}")
        why = volume_place(one.mount_path)
        if why is not None:
            raise InvalidTask(f"{where}.mountPath", why)
        for before, other in enumerate(volumes[:index]):
            if other.name == one.name:
                raise InvalidTask(f"{where}.name", f"{quoted(one.name)} is the name of {field}[{before}] too; rename one")
            if inside(one.mount_path, other.mount_path) or inside(other.mount_path, one.mount_path):
                problem = f"{quoted(one.mount_path)} and {quoted(other.mount_path)}, of {field}[{before}], lie in each other; take another"
                raise InvalidTask(f"{where}.mountPath", problem)


def inside(path: str, folder: str) -> bool:
    """Whether a path is a folder, or lies in it."""
    return f"{path}/".startswith(f"{folder}/")


def _key(key: str, field: str) -> None:
    domain, slash, name = key.rpartition("/")
    if not _NAME.fullmatch(name) or (slash and (len(domain) > _MAX_DOMAIN or not _DOMAIN.fullmatch(domain))):
        raise InvalidTask(field, f"{quoted(key)} is no name that Kubernetes knows: write it as team, or as example.com/team")
    if reserved(key):
        raise InvalidTask(field, f"{quoted(key)} is not a task's to set; take a domain of your own, as example.com/{name}")


def _bytes(texts: Mapping[str, str]) -> int:
    return sum(len(key.encode()) + len(value.encode()) for key, value in texts.items())
