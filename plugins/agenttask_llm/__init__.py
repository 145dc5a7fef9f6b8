"""The built-in LLM clients: `openai`, `anthropic`, `local`, and `scripted` for tests."""

from collections.abc import Mapping

from agenttask.plugin.hookspecs import hookimpl
from agenttask.plugin.llm import LLMClientFactory
from agenttask_llm.anthropic import AnthropicClient
from agenttask_llm.local import LocalClient
from agenttask_llm.openai import OpenAIClient
from agenttask_llm.scripted import scripted_client


@hookimpl
def agenttask_llm_clients() -> Mapping[str, LLMClientFactory]:
    """One factory a client."""
    return {"openai": OpenAIClient, "anthropic": AnthropicClient, "local": LocalClient, "scripted": scripted_client}
