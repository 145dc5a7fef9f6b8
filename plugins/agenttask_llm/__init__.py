"""The built-in LLM clients: `openai`, `anthropic`, `local`, and `scripted` for tests.

What speaks HTTP is imported with the first client that does: it takes a fifth of a second, and many tasks call no endpoint.
"""

from collections.abc import Mapping

from agenttask.api.document import ModelDocument
from agenttask.plugin.hookspecs import hookimpl
from agenttask.plugin.llm import ClientContext, LLMClient, LLMClientFactory
from agenttask_llm.local import LocalClient
from agenttask_llm.scripted import scripted_client


@hookimpl
def agenttask_llm_clients() -> Mapping[str, LLMClientFactory]:
    """One factory a client."""
    return {"openai": _openai, "anthropic": _anthropic, "local": LocalClient, "scripted": scripted_client}


def _openai(model: ModelDocument, context: ClientContext) -> LLMClient:
    from agenttask_llm.openai import OpenAIClient

    return OpenAIClient(model, context)


def _anthropic(model: ModelDocument, context: ClientContext) -> LLMClient:
    from agenttask_llm.anthropic import AnthropicClient

    return AnthropicClient(model, context)
