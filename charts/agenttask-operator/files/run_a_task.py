"""Makes one AgentTask and follows it to its end; `helm test` runs this, with nothing but the standard library.

Arguments: namespace, seconds to wait. Exit status 0: the task succeeded with the output expected.
"""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ACCOUNT = Path(os.environ.get("ACCOUNT_DIR", "/var/run/secrets/kubernetes.io/serviceaccount"))
SERVER = os.environ.get("API_SERVER", "https://kubernetes.default.svc")
TASK: dict[str, Any] = {
    "apiVersion": "agenttask.dev/v1alpha1",
    "kind": "AgentTask",
    "metadata": {"generateName": "helm-test-"},
    "spec": {
        "params": {"greeting": "hello from helm test"},
        "steps": [
            {"name": "note", "write": {"path": "note.txt", "content": "{{ params.greeting }}"}},
            {"name": "again", "read": {"paths": ["note.txt"]}},
        ],
    },
}


def call(method: str, path: str, body: object = None) -> Any:
    """One request to the API server; its JSON answer."""
    headers = {"Authorization": "Bearer " + (ACCOUNT / "token").read_text().strip(), "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(SERVER + path, data=data, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=10, context=ssl.create_default_context(cafile=ACCOUNT / "ca.crt")) as answer:
        return json.load(answer)


def follow(url: str, seconds: int) -> dict[str, Any]:
    """The status at the end of the task or of the time, printing every change."""
    end, last = time.monotonic() + seconds, None
    while True:
        status: dict[str, Any] = call("GET", url).get("status", {})
        line = " ".join(str(status.get(key) or "-") for key in ("phase", "reason", "progress", "message"))
        if line != last:
            print(line, flush=True)
        last = line
        if status.get("phase") in ("Succeeded", "Failed") or time.monotonic() > end:
            return status
        time.sleep(1)


def main(namespace: str, seconds: int) -> int:
    """0 when the task ended as it should."""
    tasks = f"/apis/agenttask.dev/v1alpha1/namespaces/{namespace}/agenttasks"
    try:
        name = call("POST", tasks, TASK)["metadata"]["name"]
    except urllib.error.HTTPError as error:
        print(f"cannot make an AgentTask in namespace {namespace}: {error} {error.read(2000).decode(errors='replace')}")
        return 1
    print(f"agenttask {namespace}/{name}", flush=True)
    status = follow(f"{tasks}/{name}", seconds)
    if status.get("phase") == "Succeeded" and status.get("output") == TASK["spec"]["params"]["greeting"]:
        print(f"output: {status['output']}")
        call("DELETE", f"{tasks}/{name}")
        return 0
    if status.get("phase") not in ("Succeeded", "Failed"):
        print(f"not finished after {seconds} s; is the controller running, and can the node pull the runner image?")
    print(f"the task stays for you to look at: kubectl -n {namespace} describe agenttask {name}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
