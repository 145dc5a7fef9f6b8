"""What calls cost, from the prices of their model: exact decimals, summed by currency, never converted."""

from collections.abc import AsyncGenerator, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal

from agenttask.api.model import Prices
from agenttask.plugin.llm import ChatRequest, Chunk, Completion, Embeddings, LLMClient, Usage
from agenttask.runner.llm.stream import closing

_PLACES = Decimal("0.000001")
_FEWEST_PLACES = Decimal("0.0001")
_EXACT = Context(prec=60, rounding=ROUND_HALF_UP)
"""Enough for every price times every count of tokens that a report holds."""


def cost(prices: Prices, usage: Usage) -> Decimal:
    """What one answer costs."""
    tokens = ((prices.input_per_million, usage.input_tokens), (prices.output_per_million, usage.output_tokens))
    return sum((_EXACT.multiply(Decimal(price), Decimal(count)).scaleb(-6, _EXACT) for price, count in tokens), Decimal(0))


class Bill:
    """Sums by currency."""

    def __init__(self) -> None:
        self._sums: dict[str, Decimal] = {}

    def add(self, prices: Prices, usage: Usage) -> None:
        """One answer more."""
        self._sums[prices.currency] = _EXACT.add(self._sums.get(prices.currency, Decimal(0)), cost(prices, usage))

    @property
    def text(self) -> str:
        """As `0.0123 USD`, several currencies separated by commas; '' where nothing had a price."""
        return ", ".join(f"{_shown(amount)} {currency}" for currency, amount in sorted(self._sums.items()))


class PricedClient:
    """Puts what its calls cost on a bill; a call without an answer is free."""

    def __init__(self, inner: LLMClient, prices: Prices, bill: Bill) -> None:
        self._inner = inner
        self._prices = prices
        self._bill = bill

    async def chat(self, request: ChatRequest) -> Completion:
        """The whole answer."""
        completion = await self._inner.chat(request)
        self._bill.add(self._prices, completion.usage)
        return completion

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """The answer piece by piece; the last has the usage."""
        async with closing(self._inner.stream(request)) as chunks:
            async for chunk in chunks:
                if chunk.usage is not None:
                    self._bill.add(self._prices, chunk.usage)
                yield chunk

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """One vector a text."""
        embeddings = await self._inner.embed(texts)
        self._bill.add(self._prices, embeddings.usage)
        return embeddings

    async def aclose(self) -> None:
        """Close the client inside."""
        await self._inner.aclose()


def _shown(amount: Decimal) -> str:
    """Up to six places, at least four."""
    rounded = amount.quantize(_PLACES, context=_EXACT)
    short = rounded.quantize(_FEWEST_PLACES, context=_EXACT)
    return f"{short}" if short == rounded else f"{rounded.normalize(_EXACT):f}"
