"""From an answer of the endpoint to a typed error: what a person reads, and whether trying again may help."""

import pytest
from tests.fakes.models import model_document

from agenttask.api.errors import ModelRejected, ModelUnavailable, RateLimited
from agenttask.domain.retry_after import retry_after
from agenttask_llm.failures import WireError, covered, failure_of, stream_failure

MODEL = model_document("openai", endpoint="http://models.test/v1")
NOW = 1_700_000_000.0


def failure(status: int, body: bytes = b"", headers=None, credential=None):
    return failure_of(MODEL, MODEL.endpoint, "/chat/completions", status, headers or {}, body, credential=credential, now=NOW)


@pytest.mark.parametrize(
    ("status", "kind", "hint"),
    [
        (400, ModelRejected, "answered 400"),
        (401, ModelRejected, "check the credential"),
        (403, ModelRejected, "does not allow this model"),
        (404, ModelRejected, "ends before /chat/completions"),
        (307, ModelRejected, "redirects are not followed"),
        (408, ModelUnavailable, "answered 408"),
        (429, RateLimited, "answered 429"),
        (500, ModelUnavailable, "answered 500"),
        (503, ModelUnavailable, "answered 503"),
    ],
)
def test_a_status_becomes_an_error_with_its_remedy(status, kind, hint):
    error = failure(status)
    assert type(error) is kind
    assert hint in str(error)
    assert "'m'" in str(error)
    assert "http://models.test/v1" in str(error)


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"error": {"message": "no such model", "code": "model_not_found"}}', "no such model"),
        (b'{"error": "overloaded"}', "overloaded"),
        (b'{"message": "from a proxy"}', "from a proxy"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b"<html>\n<h1>Bad   Gateway</h1></html>", "<html> <h1>Bad Gateway</h1></html>"),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
    ids=["openai", "ollama", "message", "fastapi", "html", "bytes"],
)
def test_the_servers_own_words_are_shown_in_one_line(body, shown):
    assert f": {shown}" in str(failure(500, body))


def test_a_server_that_says_nothing_leaves_no_colon():
    assert str(failure(500, b"{}")).endswith("answered 500")


def test_long_words_are_shortened_and_the_credential_never_shown():
    error = str(failure(401, b"sk-secret is wrong " * 100, credential="sk-secret"))
    assert "sk-secret" not in error
    assert len(error) < 600


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("2", 2.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("999999999", 86400.0),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 22:13:10 GMT", 0.0),
        ("Tue, 99 Nov 2023 22:13:10 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms(value, seconds):
    assert retry_after(value, NOW) == seconds


def test_a_rate_limit_carries_the_servers_wish():
    error = failure(429, headers={"Retry-After": "7"})
    assert isinstance(error, RateLimited)
    assert error.retry_after == 7.0


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("broken", ModelRejected),
        (WireError(message="slow down", code=429), RateLimited),
        (WireError(message="slow down", code="429"), RateLimited),
        (WireError(message="engine died", code=502), ModelUnavailable),
        (WireError(message="bad", code="context_length_exceeded"), ModelRejected),
    ],
    ids=["text", "number", "digits", "server", "word"],
)
def test_an_error_inside_a_stream_is_typed_too(error, kind):
    assert type(stream_failure(MODEL, MODEL.endpoint, error, None)) is kind


def test_covering_needs_a_credential():
    assert covered("abc", None) == "abc"
    assert covered("a-key", "key") == "a-***"


@pytest.mark.parametrize("status", [429, 500, 503, 529])
@pytest.mark.parametrize(
    ("wish", "seconds"), [("7", 7.0), ("Tue, 14 Nov 2023 22:13:35 GMT", 15.0), (None, None)], ids=["seconds", "date", "none"]
)
def test_the_wish_to_be_left_alone_for_a_while_is_kept(status, wish, seconds):
    error = failure(status, headers={} if wish is None else {"Retry-After": wish})
    assert isinstance(error, ModelUnavailable)
    assert error.retry_after == seconds
