"""Documents are cut into passages without losing anything but white space."""

from hypothesis import given
from hypothesis import strategies as st

from agenttask_steps.passages import split

TEXTS = st.text(alphabet=st.sampled_from("ab cé.!?\n\r\t\u3002"), max_size=2000)


@given(TEXTS, st.integers(64, 400))
def test_nothing_is_lost_but_white_space(text, characters):
    assert "".join("".join(split(text, characters)).split()) == "".join(text.split())


@given(TEXTS, st.integers(64, 400))
def test_passages_fit_and_are_not_empty(text, characters):
    for passage in split(text, characters):
        assert 0 < len(passage) <= characters
        assert passage == passage.strip()


def test_small_paragraphs_are_put_together():
    assert split("# Title\n\nOne.\n\n\n  \nTwo.", 64) == ["# Title\n\nOne.\n\nTwo."]


def test_a_paragraph_that_fits_stays_whole():
    first, second = "a" * 40, "b" * 40
    assert split(f"{first}\n\n{second}", 64) == [first, second]


def test_a_long_paragraph_is_cut_at_a_line_then_a_sentence_then_a_word():
    assert split("x" * 50 + "\n" + "y. " * 10, 64)[0] == "x" * 50
    assert split("w " * 20 + "end. " + "v" * 30, 64)[0] == ("w " * 20 + "end.")
    assert split("word " * 20, 64)[0] == ("word " * 12).strip()


def test_a_word_without_a_pause_is_cut_anywhere():
    assert split("x" * 150, 64) == ["x" * 64, "x" * 64, "x" * 22]


def test_windows_line_ends_part_paragraphs_too():
    assert split("a" * 40 + "\r\n\r\n" + "b" * 40, 64) == ["a" * 40, "b" * 40]


def test_no_text_has_no_passage():
    assert split(" \n\n ", 64) == []
