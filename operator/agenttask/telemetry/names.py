"""Names of spans and attributes, each with the sentence that documents it; `docs/reference/spans.md` is generated from here.

Names of OpenTelemetry's conventions where there is one (`gen_ai.*`, `cicd.pipeline.*`, `k8s.*`, `error.type`), ours
under `agenttask.*` elsewhere. No span name holds a name that a user chose: dashboards group by span name.
"""

from enum import StrEnum

from msgspec import Struct

from agenttask.telemetry.span import AttributeValue, SpanKind

TASK_SPAN = "RUN AgentTask"
QUEUE_SPAN = "queue"
POD_SPAN = "pod"
RUN_SPAN = "invoke_agent"

TASK_ID = "task"
"""What the ids of the root span are derived with; its attempt is 0."""
QUEUE_ID = "queue"
POD_ID = "pod"
RUN_ID = "run"

INVOKE_AGENT = "invoke_agent"
CHAT = "chat"
EMBEDDINGS = "embeddings"


def step_span(kind: str) -> str:
    """The span name of a step of this kind."""
    return f"step {kind}"


def call_id(call: int) -> str:
    """What the id of the span of a run's model call with this number is derived with."""
    return f"call/{call}"


def step_id(name: str) -> str:
    """What the id of the span of the step called `name` is derived with."""
    return f"step/{name}"


def item_id(step: str, item: int) -> str:
    """What the id of the span of a `forEach` step's item is derived with."""
    return f"step/{step}/item/{item}"


def item_span(kind: str) -> str:
    """The span name of an item of a step of this kind."""
    return f"item {kind}"


def call_span(operation: str, model: str) -> str:
    """The span name of a model call: `chat gpt-x`, `embeddings minilm`."""
    return f"{operation} {model}"


def run_attributes(uid: str, attempt: int) -> dict[str, AttributeValue]:
    """The attributes of an attempt's run span: the controller sends it where the runner could not, and both must agree."""
    return {Attribute.OPERATION: INVOKE_AGENT, Attribute.RUN_ID: uid, Attribute.ATTEMPT: attempt}


class PipelineResult(StrEnum):
    """How a task ended, in the words of the CI/CD conventions."""

    SUCCESS = "success"
    FAILURE = "failure"
    ERROR = "error"
    TIMEOUT = "timeout"


class Attribute(StrEnum):
    """Every attribute that our spans have; `describe()` documents each."""

    ACTION = "cicd.pipeline.action.name"
    RUN_ID = "cicd.pipeline.run.id"
    RESULT = "cicd.pipeline.result"
    NAMESPACE = "k8s.namespace.name"
    POD = "k8s.pod.name"
    POD_UID = "k8s.pod.uid"
    NODE = "k8s.node.name"
    CONTAINER = "k8s.container.name"
    TASK_NAME = "agenttask.task.name"
    ATTEMPT = "agenttask.attempt"
    DEVICE_CLASS = "agenttask.device.class"
    STEP_NAME = "agenttask.step.name"
    STEP_KIND = "agenttask.step.kind"
    STEP_ITEMS = "agenttask.step.items"
    STEP_RETRIES = "agenttask.step.retries"
    ITEM_INDEX = "agenttask.item.index"
    MODEL = "agenttask.model.name"
    OPERATION = "gen_ai.operation.name"
    PROVIDER = "gen_ai.provider.name"
    REQUEST_MODEL = "gen_ai.request.model"
    MAX_TOKENS = "gen_ai.request.max_tokens"
    RESPONSE_MODEL = "gen_ai.response.model"
    FINISH_REASONS = "gen_ai.response.finish_reasons"
    INPUT_TOKENS = "gen_ai.usage.input_tokens"
    OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
    ERROR_TYPE = "error.type"

    def describe(self) -> str:
        """The sentence that documents this attribute."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS: dict[Attribute, str] = {
    Attribute.ACTION: "Always `RUN`.",
    Attribute.RUN_ID: "The task's uid; the trace id is derived from it.",
    Attribute.RESULT: "How the task ended: `success`, `failure` (the task's own), `error` (the platform's) or `timeout` (a deadline).",
    Attribute.NAMESPACE: "The task's namespace.",
    Attribute.POD: "The attempt's pod.",
    Attribute.POD_UID: "The pod's uid.",
    Attribute.NODE: "The node that the pod ran on.",
    Attribute.CONTAINER: "The container that runs the steps.",
    Attribute.TASK_NAME: "The AgentTask's name.",
    Attribute.ATTEMPT: "Which attempt this is, from 1.",
    Attribute.DEVICE_CLASS: "The device class that placement chose.",
    Attribute.STEP_NAME: "The step's name in the spec.",
    Attribute.STEP_KIND: "The step's kind: `chat`, `exec`, or a plugin's own.",
    Attribute.STEP_ITEMS: "How many items the step's `forEach` has.",
    Attribute.STEP_RETRIES: "How many tries of the step, or of its items, failed and were followed by another.",
    Attribute.ITEM_INDEX: "Which item of `forEach` this is, from 0.",
    Attribute.MODEL: "The AgentModel's name.",
    Attribute.OPERATION: "What was asked for: `invoke_agent`, `chat` or `embeddings`.",
    Attribute.PROVIDER: "The client plugin that made the call: `openai`, `local`, `scripted`.",
    Attribute.REQUEST_MODEL: "The model that was asked for, as the endpoint names it.",
    Attribute.MAX_TOKENS: "The longest answer that was asked for.",
    Attribute.RESPONSE_MODEL: "The model that answered, where the endpoint tells.",
    Attribute.FINISH_REASONS: "Why the answer ended: `stop`, `length`.",
    Attribute.INPUT_TOKENS: "Tokens of the prompt.",
    Attribute.OUTPUT_TOKENS: "Tokens of the answer.",
    Attribute.ERROR_TYPE: "The typed reason of a failure (reasons.md); no message, which could quote content.",
}


class SpanDescription(Struct, frozen=True, kw_only=True):
    """What the reference says of one span; `name` has placeholders in braces, the root has no parent."""

    name: str
    kind: SpanKind
    parent: str
    by: str
    covers: str
    attributes: tuple[Attribute, ...]


SPANS: tuple[SpanDescription, ...] = (
    SpanDescription(
        name=TASK_SPAN,
        kind=SpanKind.SERVER,
        parent="",
        by="controller",
        covers="the task, from its creation to its completion",
        attributes=(
            Attribute.ACTION,
            Attribute.RUN_ID,
            Attribute.RESULT,
            Attribute.NAMESPACE,
            Attribute.TASK_NAME,
            Attribute.DEVICE_CLASS,
            Attribute.ERROR_TYPE,
        ),
    ),
    SpanDescription(
        name=QUEUE_SPAN,
        kind=SpanKind.INTERNAL,
        parent=TASK_SPAN,
        by="controller",
        covers="the wait, from the task's creation to its pod's",
        attributes=(Attribute.ATTEMPT,),
    ),
    SpanDescription(
        name=POD_SPAN,
        kind=SpanKind.INTERNAL,
        parent=TASK_SPAN,
        by="controller",
        covers="one attempt, from its pod's creation to the container's end",
        attributes=(Attribute.ATTEMPT, Attribute.POD, Attribute.POD_UID, Attribute.NODE, Attribute.ERROR_TYPE),
    ),
    SpanDescription(
        name=RUN_SPAN,
        kind=SpanKind.INTERNAL,
        parent=POD_SPAN,
        by="runner; the controller where the runner died before it could",
        covers="the steps",
        attributes=(Attribute.OPERATION, Attribute.RUN_ID, Attribute.ATTEMPT, Attribute.ERROR_TYPE),
    ),
    SpanDescription(
        name=step_span("{kind}"),
        kind=SpanKind.INTERNAL,
        parent=RUN_SPAN,
        by="runner",
        covers="one step, with all its tries",
        attributes=(Attribute.STEP_NAME, Attribute.STEP_KIND, Attribute.STEP_ITEMS, Attribute.STEP_RETRIES, Attribute.ERROR_TYPE),
    ),
    SpanDescription(
        name=item_span("{kind}"),
        kind=SpanKind.INTERNAL,
        parent=step_span("{kind}"),
        by="runner",
        covers="one item of `forEach`, with all its tries; the first hundred of a step, the others are counted only",
        attributes=(Attribute.STEP_NAME, Attribute.ITEM_INDEX, Attribute.ERROR_TYPE),
    ),
    SpanDescription(
        name=call_span("{chat or embeddings}", "{model}"),
        kind=SpanKind.CLIENT,
        parent=step_span("{kind}"),
        by="runner",
        covers="one call of a model, to the end of its answer",
        attributes=(
            Attribute.OPERATION,
            Attribute.PROVIDER,
            Attribute.MODEL,
            Attribute.REQUEST_MODEL,
            Attribute.MAX_TOKENS,
            Attribute.RESPONSE_MODEL,
            Attribute.FINISH_REASONS,
            Attribute.INPUT_TOKENS,
            Attribute.OUTPUT_TOKENS,
            Attribute.ERROR_TYPE,
        ),
    ),
)
