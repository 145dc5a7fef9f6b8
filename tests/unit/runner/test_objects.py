"""What a store said, in words for a person: whatever it is, no secret, no line break, and never more than a message holds."""

import asyncio

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agenttask.api.document import OutputStoreDocument
from agenttask.api.errors import NotHandedOver, OutputRejected
from agenttask.api.report import ERROR_MESSAGE_CHARACTERS
from agenttask.domain.output_store import CLIENT_OPTIONS, STORE_OPTIONS
from agenttask.runner.objects import StoreObjects, merged

SECRET = {"aws_access_key_id": "AKSECRETSECRET", "aws_secret_access_key": "the-secret-itself", "aws_region": "eu-central-1"}
DOCUMENT = OutputStoreDocument(url="s3://outputs/x", secret="store-keys")
PUT = "Generic S3 error: Error performing PUT https://store.example/outputs/x/k in 3ms - Server returned non-2xx status code: "


class GenericError(Exception):
    """Of the library, by its name."""


class PermissionDeniedError(Exception):
    """Of the library, by its name."""


class PanicException(BaseException):
    """Of the library's bridge, by its name."""


class Failing:
    """The library's store, which fails with a text of its own."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def put_async(self, *_arguments: object, **_options: object) -> None:
        raise self.error


async def said(error: BaseException, secret: dict[str, str] = SECRET) -> OutputRejected | NotHandedOver:
    with pytest.raises((OutputRejected, NotHandedOver)) as raised:
        await StoreObjects(DOCUMENT, secret, open_store=lambda: Failing(error)).put("k", b"12345")  # type: ignore[arg-type,return-value]
    return raised.value  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        pytest.param(GenericError(f"{PUT}500 Internal Server Error: oops"), NotHandedOver, "500 Internal Server Error: oops", id="500"),
        pytest.param(GenericError(f"{PUT}429 Too Many Requests: slow\ndown"), NotHandedOver, "429 Too Many Requests: slow down", id="429"),
        pytest.param(GenericError(f"{PUT}408 Request Timeout"), NotHandedOver, "408 Request Timeout", id="408"),
        pytest.param(
            GenericError("Generic S3 error: ... - HTTP error: error sending request"), NotHandedOver, "HTTP error", id="no answer"
        ),
        pytest.param(
            GenericError(f"{PUT}400 Bad Request: <Error><Code>C</Code></Error>"), OutputRejected, ": 400 Bad Request: C; check", id="400"
        ),
        pytest.param(
            GenericError("Generic Config error: no"), OutputRejected, "no; check outputStore.options and the Secret", id="set up wrongly"
        ),
        pytest.param(PermissionDeniedError("no"), OutputRejected, ": no; check the Secret 'store-keys', and that it may", id="denied"),
        pytest.param(FileNotFoundError("no such"), OutputRejected, ": no such; is there such a bucket or account?", id="nowhere"),
        pytest.param(
            PanicException("Expected config"), OutputRejected, ": Expected config; check outputStore.options", id="the library breaks"
        ),
        pytest.param(
            GenericError(f"{PUT}400 Bad Request: x\n\nDebug source: InvalidContentType, Name or service not known"),
            OutputRejected,
            ": 400 Bad Request: x; check outputStore.options and",
            id="a server that speaks of certificates",
        ),
        pytest.param(ValueError("Invalid key"), OutputRejected, "Invalid key; check outputStore.options", id="a key of ours"),
    ],
)
async def test_what_passes_is_told_from_what_does_not(error: BaseException, kind: type[Exception], words: str) -> None:
    found = await said(error)
    assert (type(found), words in str(found)) == (kind, True), str(found)
    assert str(found).startswith("the output (5 bytes) could not be left at s3://outputs/x/k: ")


PIECES = [
    "status code: ",
    "403",
    "500 x: ",
    "<Code>",
    "</Code>",
    "<Message>",
    "</Message>",
    "\n\nDebug source:",
    "\n",
    "\x00",
    "ü",
    *SECRET.values(),
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=20), max_size=40).map("".join), st.sampled_from([GenericError, ValueError]))
@example(f"{PUT}403 Forbidden: <Code>x</Code><Message>{SECRET['aws_secret_access_key'] * 200}</Message>", GenericError)
async def test_no_answer_of_a_store_brings_a_secret_or_a_long_message_into_the_status(text: str, kind: type[Exception]) -> None:
    message = str(await said(kind(text)))
    assert SECRET["aws_access_key_id"] not in message
    assert SECRET["aws_secret_access_key"] not in message
    assert "\n" not in message
    assert len(message) < ERROR_MESSAGE_CHARACTERS


@pytest.mark.parametrize("value", ["two  words\nof a secret", "two words of a secret"])
async def test_a_secret_with_spaces_is_hidden_however_it_is_told(value: str) -> None:
    secret = {**SECRET, "aws_session_token": "two  words\nof a secret"}
    for text in (f"no {value}", f"{PUT}403 Forbidden: <Message>no {value}</Message>"):
        assert "words" not in str(await said(ValueError(text), secret))


async def test_the_proxy_of_a_secret_may_have_a_password() -> None:
    secret = {**SECRET, "proxy_url": "http://me:pass@proxy:3128"}
    assert "pass" not in str(await said(GenericError("the proxy http://me:pass@proxy:3128 is wrong"), secret)).replace("passed", "")


async def test_what_is_no_secret_stays_readable() -> None:
    assert "the region 'eu-central-1' is wrong" in str(await said(GenericError("the region 'eu-central-1' is wrong")))


async def test_a_cancelled_upload_is_cancelled_and_no_failure() -> None:
    with pytest.raises(asyncio.CancelledError):
        await StoreObjects(DOCUMENT, SECRET, open_store=lambda: Failing(asyncio.CancelledError())).put("k", b"")  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(
    ("scheme", "key", "option"),
    [
        ("s3", "aws_region", "region"),
        ("s3", "AWS_REGION", "region"),
        ("s3", "region", "region"),
        ("s3", "aws_allow_http", "allow_http"),
        ("gs", "google_service_account_key", "service_account_key"),
        ("az", "azure_storage_account_key", "account_key"),
        ("az", "AZURE_CLIENT_ID", "client_id"),
        ("az", "aws_region", "aws_region"),
    ],
)
def test_a_key_of_the_secret_is_an_option_by_its_plain_name_and_wins(scheme: str, key: str, option: str) -> None:
    assert merged(scheme, {option: "of the options", "other": "stays"}, {key: " of the Secret\n"}) == {
        option: "of the Secret",
        "other": "stays",
    }


def test_options_of_a_store_and_of_its_client_are_told_apart() -> None:
    for names in STORE_OPTIONS.values():
        assert not names & CLIENT_OPTIONS
