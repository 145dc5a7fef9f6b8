"""Only who has the key can speak for an attempt, and only until the token expires."""

import base64
import hmac
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask.api.gateway import MAX_TOKEN_CHARACTERS, TokenClaims
from agenttask.controller.gateway.tokens import BadKey, BadToken, Tokens, read_keys

KEY, OTHER = b"k" * 32, b"o" * 32
CLAIMS = TokenClaims(namespace="agents", task="review", uid="u-1", attempt=2, expires=1000)
TOKENS = Tokens((KEY,))


def payload_of(**fields: object) -> bytes:
    return json.dumps({"v": 1, "ns": "agents", "task": "review", "uid": "u-1", "attempt": 2, "exp": 1000} | fields).encode()


def signed(payload: bytes, key: bytes = KEY) -> str:
    """What somebody with the key could make of any payload."""
    parts = (payload, hmac.digest(key, payload, "sha256"))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def test_a_token_says_what_it_was_issued_for() -> None:
    assert TOKENS.read(TOKENS.issue(CLAIMS), 999.9) == CLAIMS


def test_a_token_has_only_characters_that_a_header_and_a_variable_take() -> None:
    assert TOKENS.issue(CLAIMS).replace(".", "", 1).replace("-", "").replace("_", "").isalnum()


def test_the_longest_names_fit() -> None:
    longest = TokenClaims(namespace="n" * 63, task="t" * 253, uid="u" * 128, attempt=10**6, expires=2**53)
    token = TOKENS.issue(longest)
    assert len(token) < MAX_TOKEN_CHARACTERS / 2
    assert TOKENS.read(token, 0) == longest


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        pytest.param("", "not of this installation", id="empty"),
        pytest.param(".", "not of this installation", id="a dot"),
        pytest.param("é.ü", "not of this installation", id="no base64"),
        pytest.param("a" * (MAX_TOKEN_CHARACTERS + 1), "at most 2048 are read", id="oversized"),
        pytest.param(Tokens((OTHER,)).issue(CLAIMS), "not of this installation", id="forged with another key"),
        pytest.param(signed(b"nonsense"), "cannot be read", id="signed nonsense"),
        pytest.param(signed(payload_of(v=2)), "version 2", id="newer version"),
        pytest.param(signed(payload_of(attempt=0)), "cannot be read", id="attempt 0"),
        pytest.param(signed(payload_of(attempt="2")), "cannot be read", id="attempt as text"),
        pytest.param(signed(payload_of(role="admin")), "cannot be read", id="unknown claim"),
        pytest.param(signed(payload_of(exp=10)), "expired 490 s ago", id="expired"),
        pytest.param(signed(payload_of(exp=500)), "expired 0 s ago", id="expires right now"),
    ],
)
def test_what_is_not_ours_or_not_valid_any_more_is_refused(token: str, problem: str) -> None:
    with pytest.raises(BadToken, match=problem):
        TOKENS.read(token, 500)


def test_the_signature_of_one_attempt_is_none_for_another() -> None:
    mine, theirs = (TOKENS.issue(msgspec.structs.replace(CLAIMS, attempt=attempt)) for attempt in (1, 2))
    with pytest.raises(BadToken):
        TOKENS.read(theirs.split(".")[0] + "." + mine.split(".")[1], 0)


@given(place=st.integers(min_value=0), bit=st.integers(0, 7))
def test_no_changed_bit_passes(place: int, bit: int) -> None:
    raw = bytearray(TOKENS.issue(CLAIMS), "ascii")
    raw[place % len(raw)] ^= 1 << bit
    try:
        read = TOKENS.read(raw.decode("latin-1"), 0)
    except BadToken:
        return
    assert read == CLAIMS  # the last character of base64 has bits that nobody reads


@given(st.text(max_size=200))
def test_any_text_is_refused_and_never_crashes(text: str) -> None:
    with pytest.raises(BadToken):
        TOKENS.read(text, 0)


def test_the_first_key_signs_and_older_ones_are_accepted() -> None:
    rotated = Tokens((OTHER, KEY))
    assert rotated.read(TOKENS.issue(CLAIMS), 0) == CLAIMS
    with pytest.raises(BadToken):
        TOKENS.read(rotated.issue(CLAIMS), 0)


@pytest.mark.parametrize("text", [b"", b"\n\n", b"short\n", KEY + b"\nshort"], ids=["empty", "blank lines", "short", "one short"])
def test_a_key_that_could_be_guessed_is_refused(text: bytes) -> None:
    with pytest.raises(BadKey, match="at least 32 random characters"):
        Tokens(read_keys(text))


def test_keys_stand_one_a_line() -> None:
    assert read_keys(KEY + b"\r\n\n  " + OTHER + b"\n") == (KEY, OTHER)
