"""Names that cross a process boundary: the group, labels, annotations, paths and environment of a task's pod.

A name here is a promise to users and to pods of other versions; changing one needs a line in CHANGELOG.md.
"""

from typing import Final

GROUP: Final = "agenttask.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
TASK_KIND: Final = "AgentTask"
TASK_PLURAL: Final = "agenttasks"
MODEL_KIND: Final = "AgentModel"
MODEL_PLURAL: Final = "agentmodels"
QUEUE_KIND: Final = "AgentQueue"
QUEUE_PLURAL: Final = "agentqueues"
RECORD_KIND: Final = "AgentTaskRecord"
RECORD_PLURAL: Final = "agenttaskrecords"

LABEL_TASK_UID: Final = f"{GROUP}/task-uid"
LABEL_TASK_NAME: Final = f"{GROUP}/task-name"
"""The task's name cut to the 63 characters of a label; for people and selectors, never for identity."""
LABEL_ATTEMPT: Final = f"{GROUP}/attempt"
LABEL_QUEUE: Final = f"{GROUP}/queue"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "agenttask"
ANNOTATION_DOCUMENT: Final = f"{GROUP}/document"
"""The task document (api/document.py), mounted by the downward API: no environment expansion touches it."""
ANNOTATION_DEVICE: Final = f"{GROUP}/device"
"""Why the pod got its device class, as `status.device` will show it: a controller that starts anew reads it back."""
ANNOTATION_MODELS: Final = f"{GROUP}/models"
"""The AgentModels that the pod calls, as a JSON array: a controller that starts anew counts it for them though its task is gone."""

CONTAINER: Final = "runner"
DOCUMENT_DIR: Final = "/etc/agenttask"
DOCUMENT_PATH: Final = f"{DOCUMENT_DIR}/document.json"
TERMINATION_PATH: Final = "/dev/termination-log"
WORKSPACE_PATH: Final = "/workspace"
INPUTS_PATH: Final = "/inputs"
MODELS_PATH: Final = "/mnt/models"
"""Weights on a claim, mounted below it by the model's name; `/models` is left to images that bring their own."""
CA_DIR: Final = "/etc/agenttask-ca"
CA_FILE: Final = "ca.pem"
"""A model's CA bundle: `<CA_DIR>/<model's name>/<CA_FILE>`."""
SCRATCH_PATH: Final = "/tmp"  # noqa: S108 - the pod's own sized emptyDir

ENV_CREDENTIAL_PREFIX: Final = "AGENTTASK_CREDENTIAL_"
"""One variable a model credential, by secretKeyRef; the runner strips them before anything else starts."""
ENV_SECRET_PREFIX: Final = "AGENTTASK_SECRET_"  # noqa: S105 - a name, no secret
"""One variable for each `exec.env[].secretKeyRef`; stripped too, and handed only to the step that names it."""
ENV_GATEWAY_TOKEN: Final = "AGENTTASK_GATEWAY_TOKEN"  # noqa: S105 - a name, no secret
"""The attempt's token for the gateway; stripped like a credential."""
ENV_STORE_PREFIX: Final = "AGENTTASK_STORE_"
"""One variable for each key of the object store's Secret; stripped too, and no step can name them."""
ENV_TRACEPARENT: Final = "TRACEPARENT"

MAX_DOCUMENT_BYTES: Final = 200 * 1024
"""Annotations of an object may hold 256 KiB in all (Kubernetes API); the rest is for others."""
MAX_REPORT_BYTES: Final = 4096
"""The kubelet keeps this much of a termination message."""
MAX_STATUS_OUTPUT_BYTES: Final = 16 * 1024
"""A larger output stays in the AgentTaskRecord, and the status names it."""
MAX_RENDERED_BYTES: Final = 1 << 20
"""Rendering a template stops here (DESIGN.md §3)."""
MAX_STEP_TEXT_BYTES: Final = 1 << 20
"""What a step may hand to later steps: files read, standard output, an answer."""

RUNNER_GRACE_SECONDS: Final = 30
"""How long a stopped runner takes at most to end its steps, leave its checkpoint and report."""
POD_GRACE_SECONDS: Final = 40
"""The pod's own grace: the kubelet kills after it, so it must outlast the runner's."""

POD_UID: Final = 10001
"""User and group of every task pod; above 10000 so that it is nobody on the node."""
