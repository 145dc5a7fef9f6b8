"""What calls cost: exact, by currency, as it is shown."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.models import ask
from tests.fakes.scripted_client import CALLS, PlayedClient, called

from agenttask.api.errors import ModelUnavailable
from agenttask.api.model import Prices
from agenttask.plugin.llm import Usage
from agenttask.runner.llm.pricing import Bill, PricedClient, cost

CHEAP = Prices(input_per_million="0.15", output_per_million="0.60")


@pytest.mark.parametrize(
    ("prices", "usage", "shown"),
    [
        (CHEAP, Usage(input_tokens=2000, output_tokens=20000), "0.0123 USD"),
        (CHEAP, Usage(input_tokens=1), "0.0000 USD"),
        (CHEAP, Usage(input_tokens=10), "0.000002 USD"),
        (CHEAP, Usage(), "0.0000 USD"),
        (Prices(input_per_million="12.5", currency="EUR"), Usage(input_tokens=1_000_000), "12.5000 EUR"),
        (Prices(input_per_million="999999999.999999999"), Usage(input_tokens=2**53), "9007199254740991990.992801 USD"),
    ],
    ids=["cents", "less than shown", "small", "nothing", "euros", "largest"],
)
def test_a_bill_shows_four_places_and_up_to_six(prices, usage, shown):
    bill = Bill()
    bill.add(prices, usage)
    assert bill.text == shown


def test_a_bill_sums_by_currency_and_converts_nothing():
    bill = Bill()
    assert bill.text == ""
    for prices in (CHEAP, Prices(input_per_million="3", currency="EUR"), CHEAP):
        bill.add(prices, Usage(input_tokens=100_000))
    assert bill.text == "0.3000 EUR, 0.0300 USD"


@given(st.lists(st.integers(0, 10**9), max_size=50))
def test_ten_thousand_small_amounts_lose_nothing(tokens):
    bill = Bill()
    for count in tokens:
        bill.add(CHEAP, Usage(input_tokens=count, output_tokens=count))
    assert bill._sums.get("USD", Decimal(0)) == cost(CHEAP, Usage(input_tokens=sum(tokens), output_tokens=sum(tokens)))


@pytest.mark.parametrize("how", CALLS)
async def test_each_answer_is_put_on_the_bill_and_a_failure_is_not(how):
    bill = Bill()
    inner = PlayedClient("hello", ModelUnavailable("x"), usage=Usage(calls=1, input_tokens=1_000_000))
    client = PricedClient(inner, CHEAP, bill)
    await called(client, how, ask("x"))
    with pytest.raises(ModelUnavailable):
        await called(client, how, ask("x"))
    await client.aclose()
    assert (bill.text, inner.closed) == ("0.1500 USD", 1)
