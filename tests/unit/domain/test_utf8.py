"""The size of a text is what its encoding has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask.domain.utf8 import utf8_length


@given(text=st.text(alphabet=st.characters(exclude_categories=()), max_size=50))
def test_it_is_that_of_the_encoded_text(text: str) -> None:
    assert utf8_length(text, "surrogatepass") == len(text.encode("utf-8", "surrogatepass"))


def test_half_of_a_surrogate_pair_has_none_of_its_own() -> None:
    with pytest.raises(UnicodeEncodeError):
        utf8_length("a\ud800")
