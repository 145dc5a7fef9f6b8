"""Which of two views of the cluster is the newer one."""


def comparable(version: str) -> int:
    """A resourceVersion as a number: so it may be compared since Kubernetes 1.35 (KEP-5504), and in fact always; 0 where it is none."""
    return int(version) if version.isascii() and version.isdigit() else 0
