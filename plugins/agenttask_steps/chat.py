"""`chat`: asks a model. `text` is its answer.

The answer is streamed although nobody watches it grow: a time-out or a stop closes the stream, and the endpoint stops
generating for nobody; and an endless answer ends at the bound instead of in memory.
"""

from collections.abc import AsyncGenerator

from agenttask.plugin.llm import ChatRequest, Message
from agenttask.plugin.step import StepContext, StepOutput
from agenttask_steps.handing_on import Room
from agenttask_steps.rendered import RenderedChat


class ChatStep:
    """Asks once."""

    schema = RenderedChat

    async def run(self, config: RenderedChat, context: StepContext) -> StepOutput:
        """Put the answer together; one that was cut by `maxTokens` says so in the log."""
        system = (Message(role="system", content=config.system),) if config.system else ()
        request = ChatRequest(messages=(*system, Message(role="user", content=config.prompt)), max_tokens=config.max_tokens)
        room = Room("the answer has", "lower `maxTokens`")
        pieces: list[str] = []
        finish_reason: str | None = None
        stream = context.model(config.model).stream(request)
        try:
            async for chunk in stream:
                pieces.append(room.take(chunk.text))
                finish_reason = chunk.finish_reason or finish_reason
        finally:
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()
        if finish_reason == "length":
            context.log(f"the answer was cut at its length; maxTokens is {config.max_tokens}")
        return StepOutput(text="".join(pieces))
