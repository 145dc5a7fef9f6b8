"""An AgentModel as the runner is told of it: every field, in one place for the controller and for runs without a cluster."""

from collections.abc import Sequence

from agenttask.api.document import ModelDocument
from agenttask.api.model import AgentModelSpec, LocalModel


def model_document(
    name: str,
    spec: AgentModelSpec,
    *,
    credential_env: str | None,
    ca_file: str | None,
    local: LocalModel | None,
    fallback: Sequence[str],
) -> ModelDocument:
    """The document of one model.

    Args:
        name: the AgentModel's name.
        spec: the AgentModel.
        credential_env: the variable with its credential.
        ca_file: where its certificates lie.
        local: its weights, where they can be opened.
        fallback: the models that are there for it; none for a model that is a fallback itself.
    """
    return ModelDocument(
        name=name,
        client=spec.client,
        model=spec.model,
        endpoint=spec.endpoint,
        credential_env=credential_env,
        headers=spec.headers,
        ca_file=ca_file,
        http2=spec.http2,
        timeouts=spec.timeouts,
        limits=spec.limits,
        retry=spec.retry,
        circuit_breaker=spec.circuit_breaker,
        fallback=tuple(fallback),
        prices=spec.prices,
        local=local,
        parameters=spec.parameters,
    )
