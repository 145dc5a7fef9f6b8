"""A step that runs until the test lets it go: no pause is long enough for what a test looks at meanwhile, on a busy machine."""

from typing import Any

from tests.e2e.cluster import Namespace

_SIGN = "/workspace/go"


def held(name: str, then: str = "true") -> dict[str, Any]:
    """The step; `then` is what it runs at its end."""
    return {"name": name, "exec": {"command": ["sh", "-c", f"until [ -e {_SIGN} ]; do sleep 0.2; done; {then}"]}}


def let_go(namespace: Namespace, pod: str) -> None:
    """End it; also of a task that comes to it later."""
    namespace.kubectl("exec", pod, "--", "touch", _SIGN)
