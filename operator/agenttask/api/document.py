"""The task document: all that the runner is told, as one annotation mounted by the downward API.

Versioned, because the runner image and the controller are rolled out apart: a runner refuses a document of a newer
version with a message that says so, and skips fields it does not know.
"""

import msgspec
from msgspec import Struct

from agenttask.api.constants import MAX_DOCUMENT_BYTES
from agenttask.api.errors import InvalidTask
from agenttask.api.model import CallRetry, CircuitBreaker, Limits, LocalModel, Prices, Timeouts
from agenttask.api.output_store import MAX_OBJECT_BYTES
from agenttask.api.task import AgentTaskSpec

DOCUMENT_VERSION = 2
"""What is written; a version is one more where an older runner would misread the document."""
_READ_VERSIONS = (1, 2)


class TaskRef(Struct, frozen=True, kw_only=True, rename="camel"):
    """Which task this is; `created` is RFC 3339."""

    name: str
    namespace: str
    uid: str
    created: str = ""


class ModelDocument(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An AgentModel resolved for one pod; `credentialEnv` names the variable that holds its credential."""

    name: str
    client: str
    model: str
    endpoint: str | None = None
    credential_env: str | None = None
    headers: dict[str, str] = {}
    ca_file: str | None = None
    """Path of the mounted CA bundle."""
    http2: str = "Auto"
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    retry: CallRetry = CallRetry()
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    fallback: tuple[str, ...] = ()
    """Names of other model documents of the task; theirs are not followed."""
    prices: Prices | None = None
    local: LocalModel | None = None
    parameters: dict[str, str] = {}


class SecretVariable(Struct, frozen=True, kw_only=True, rename="camel"):
    """Which pod variable holds the secret for one `exec.env` entry."""

    step: str
    name: str
    env: str


class DeviceDocument(Struct, frozen=True, kw_only=True, rename="camel"):
    """The class that placement chose; `kind` is `cpu`, `cuda` or `remote`."""

    class_: str = msgspec.field(name="class", default="cpu")
    kind: str = "cpu"
    strategy: str = "auto"


class Policy(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What the installation allows to a task's steps."""

    hosts: tuple[str, ...] = ()
    """Hosts for `fetch` and `git`, as `api.example.com` or `*.example.com`, with a port where it is not the scheme's; none: nothing."""
    hub: bool = False
    """Whether weights may be downloaded from a hub."""


class GatewayDocument(Struct, frozen=True, kw_only=True, rename="camel"):
    """Where the runner reaches the controller (api/gateway.py): `https://host:port`, and the PEM of the CA that signed for it."""

    url: str
    ca: str


class OutputStoreDocument(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Where outputs go that fit nowhere else (api/output_store.py): what the installation says of it, without its credentials."""

    url: str
    options: dict[str, str] = {}
    secret: str = ""
    """The Secret's name, for messages; its keys are variables of the pod."""
    max_bytes: int = MAX_OBJECT_BYTES


class TaskDocument(Struct, frozen=True, kw_only=True, rename="camel"):
    """What one attempt is to do."""

    version: int = DOCUMENT_VERSION
    task: TaskRef
    attempt: int = 1
    spec: AgentTaskSpec
    models: tuple[ModelDocument, ...] = ()
    secrets: tuple[SecretVariable, ...] = ()
    device: DeviceDocument = DeviceDocument()
    policy: Policy = Policy()
    gateway: GatewayDocument | None = None
    """None: no attempt goes on from another, and outputs go to the store, or have to fit the termination message."""
    output_store: OutputStoreDocument | None = None
    """None: there is none, or the pod's image may not hold its credential."""


class _Envelope(Struct):
    version: int = 0


_encode = msgspec.json.Encoder(order="deterministic").encode


def encode(document: TaskDocument) -> str:
    """The annotation's value.

    Raises:
        InvalidTask: the document is larger than an annotation may be.
    """
    raw = _encode(document)
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise InvalidTask(
            "spec",
            f"the task document has {len(raw)} bytes, at most {MAX_DOCUMENT_BYTES} fit in a pod's annotation; "
            "move long texts into a ConfigMap input",
        )
    return raw.decode()


def decode(raw: bytes | str) -> TaskDocument:
    """The document in an annotation.

    Raises:
        InvalidTask: not a document, or one of a newer version.
    """
    try:
        version = msgspec.json.decode(raw, type=_Envelope).version
        if version not in _READ_VERSIONS:
            raise InvalidTask(
                "",
                f"task document version {version}, this runner reads up to {DOCUMENT_VERSION}; "
                "use a runner image of the controller's version",
            )
        return msgspec.json.decode(raw, type=TaskDocument)
    except msgspec.MsgspecError as error:
        raise InvalidTask("", f"the task document is malformed: {error}") from error
