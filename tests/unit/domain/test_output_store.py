"""What may be said of an object store, and which places in it a report is believed: its own attempt's, to the letter."""

import re
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agenttask.api.meta import ObjectMeta
from agenttask.api.output_store import MAX_OBJECT_URL, MAX_STORE_URL, object_url, output_key
from agenttask.api.report import COST_CHARACTERS, MOST_COUNTED, ObjectReport, Report, StepReport, UsageReport, decode, encode
from agenttask.api.task import OutputRef
from agenttask.domain.lifecycle import MAX_MESSAGE
from agenttask.domain.output_store import CLIENT_OPTIONS, STORE_OPTIONS, Disbelieved, accepted, problems

TASK = ObjectMeta(name="review", namespace="agents", uid="7c1f7b9e-0000-4000-8000-000000000001")
STORE = "s3://outputs/agents"
KEY = f"agents/review/{TASK.uid}/attempt-2/output"
DIGEST = "0123456789abcdef" * 4
ONE_STEP = ["", "/", "//", ".", "..", " ", "\n", "\x00", "?", "#", "%2e%2e", "A", "attempt-2", "../"]


def told(url: str, size: int = 5) -> ObjectReport:
    return ObjectReport(url, size, DIGEST)


def test_the_place_of_an_attempt_is_believed_and_becomes_the_reference() -> None:
    found = accepted(told(f"{STORE}/{KEY}"), url=STORE, max_bytes=5, task=TASK, attempt=2)
    assert found == OutputRef(kind="ObjectStore", name=STORE, key=KEY, size=5, sha256=DIGEST)
    assert output_key(namespace="agents", name="review", uid=TASK.uid, attempt=2) == KEY


@pytest.mark.parametrize(
    ("url", "store", "attempt", "size"),
    [
        pytest.param(f"{STORE}/{KEY}", STORE, 1, 5, id="another attempt"),
        pytest.param(f"{STORE}/{KEY.replace('review', 'other')}", STORE, 2, 5, id="another task"),
        pytest.param(f"{STORE}/{KEY.replace('agents/', 'others/')}", STORE, 2, 5, id="another namespace"),
        pytest.param(f"{STORE}/{KEY.replace(TASK.uid, '0')}", STORE, 2, 5, id="a task of that name before it"),
        pytest.param(f"s3://elsewhere/{KEY}", STORE, 2, 5, id="another bucket"),
        pytest.param(f"https://evil.example/{KEY}", STORE, 2, 5, id="another scheme"),
        pytest.param(f"{STORE}/x/../{KEY}", STORE, 2, 5, id="another way there"),
        pytest.param(f"{STORE}/{KEY}", "", 2, 5, id="no store"),
        pytest.param(f"/{KEY}", "", 2, 5, id="no store, and an address without one"),
        pytest.param(f"{STORE}/{KEY}", STORE, 2, 101, id="more than may be stored"),
    ],
)
def test_any_other_place_is_not(url: str, store: str, attempt: int, size: int) -> None:
    assert isinstance(accepted(told(url, size), url=store, max_bytes=100, task=TASK, attempt=attempt), Disbelieved)


@pytest.mark.parametrize(
    ("url", "store", "size", "why"),
    [
        pytest.param(
            "s3://old/x",
            STORE,
            101,
            f"lies at 's3://old/x', and no place but '{STORE}/{KEY}' is this attempt's (outputStore.url); where that was changed "
            "while the pod ran, run the task again",
            id="its place",
        ),
        pytest.param(
            f"{STORE}/{KEY}",
            STORE,
            101,
            f"has 101 bytes, and at most 100 are taken from '{STORE}' (outputStore.maxBytes); raise it, or let `output` name a shorter "
            "text, and run the task again",
            id="its size",
        ),
        pytest.param(
            f"{STORE}/{KEY}",
            "",
            5,
            f"lies at '{STORE}/{KEY}', and there is no store (outputStore.url); set it, and run the task again",
            id="no store",
        ),
    ],
)
def test_each_refusal_says_its_own_value_limit_and_remedy(url: str, store: str, size: int, why: str) -> None:
    found = accepted(told(url, size), url=store, max_bytes=100, task=TASK, attempt=2)
    assert found == Disbelieved(f"the runner said that the output {why}")


def test_the_longest_addresses_leave_room_for_the_remedy() -> None:
    longest = ObjectMeta(name="t" * 253, namespace="n" * 63, uid=TASK.uid)
    found = accepted(told("s3://" + "x" * 1019), url="s3://" + "b" * (MAX_STORE_URL - 5), max_bytes=100, task=longest, attempt=10**6)
    assert isinstance(found, Disbelieved)
    assert (len(found.why) <= MAX_MESSAGE, found.why[-18:]) == (True, "run the task again")


@given(st.integers(0, len(f"{STORE}/{KEY}")), st.integers(0, 3), st.text(max_size=4) | st.sampled_from(ONE_STEP))
@example(0, 0, "")
def test_only_the_very_address_is_believed_whatever_is_put_into_it(at: int, cut: int, put: str) -> None:
    address = f"{STORE}/{KEY}"
    forged = address[:at] + put + address[at + cut :]
    found = accepted(told(forged), url=STORE, max_bytes=5, task=TASK, attempt=2)
    assert isinstance(found, OutputRef) == (forged == address)


def test_a_report_that_names_the_longest_address_fits_the_termination_message() -> None:
    key = output_key(namespace="n" * 63, name="t" * 253, uid="u" * 36, attempt=10**6)
    url = object_url("s3://" + "b" * (MAX_STORE_URL - 5), key)
    steps = tuple(StepReport(index, "S", MOST_COUNTED, MOST_COUNTED, "m" * 160, 10**9, 10**6, 10**6) for index in range(64))
    usage = UsageReport(MOST_COUNTED, MOST_COUNTED, MOST_COUNTED, "c" * COST_CHARACTERS)
    at = ObjectReport(url, 2**29, DIGEST)
    read = decode(encode(Report(attempt=10**6, started=MOST_COUNTED, done=True, steps=steps, usage=usage, output_object=at)))
    assert len(url) < MAX_OBJECT_URL
    assert (read.output_object, read.usage, [(step.index, step.duration_ms) for step in read.steps]) == (
        at,
        usage,
        [(index, MOST_COUNTED) for index in range(64)],
    )


@pytest.mark.parametrize(
    "url",
    ["s3://outputs", "s3://outputs/agents", "gs://my-bucket/a/b.c/d_e=1", "az://container/agents/x", "s3://a.b-c/..."],
)
def test_a_bucket_and_a_prefix_are_allowed(url: str) -> None:
    assert list(problems(url=url, secret="", options={})) == []


@pytest.mark.parametrize(
    "url",
    [
        "outputs",
        "/mnt/outputs",
        "file:///mnt/outputs",
        "memory:///",
        "https://bucket.s3.amazonaws.com/x",
        "S3://outputs",
        "s3://",
        "s3:///x",
        "s3://ab",
        "s3://key:secret@outputs/x",
        "s3://outputs/x?region=eu",
        "s3://outputs/x#y",
        "s3://outputs:9000/x",
        "s3://outputs/",
        "s3://outputs/x/",
        "s3://outputs//x",
        "s3://outputs/../x",
        "s3://outputs/x/..",
        "s3://outputs/./x",
        "s3://outputs/a b",
        "s3://outputs/x\n",
        "s3://outputs/ü",
        "s3://outputs/%2e%2e",
    ],
)
def test_anything_else_is_told_with_the_value_and_how_it_is_written(url: str) -> None:
    (problem,) = problems(url=url, secret="", options={})
    assert problem.startswith(f"outputStore.url: {url!r} is no bucket and prefix of one of s3, gs, az; write it as s3://bucket/prefix, ")


@given(st.text(alphabet=string.printable, max_size=40))
def test_no_url_passes_that_has_a_user_a_query_or_a_way_up(rest: str) -> None:
    if not list(problems(url=f"s3://{rest}", secret="", options={})):
        assert not set(rest) & set("@?#: \\%")
        assert not {"", ".", ".."} & set(rest.split("/"))


@pytest.mark.parametrize(
    ("given_settings", "said"),
    [
        pytest.param(
            {"secret": "keys"},
            "outputStore.secretName: 'keys' without outputStore.url; say where outputs go, as s3://bucket/prefix",
            id="secret",
        ),
        pytest.param({"options": {"region": "eu"}}, "outputStore.options: 'region' without outputStore.url", id="options"),
        pytest.param(
            {"url": "s3://outputs/" + "x" * 400}, "outputStore.url: 413 characters, at most 384 are kept; use a shorter prefix", id="long"
        ),
        pytest.param(
            {"options": {"regoin": "eu"}, "url": STORE},
            "outputStore.options: 'regoin' is none of allow_http, .*did you mean 'region'",
            id="typo",
        ),
        pytest.param({"options": {"account_name": "a"}, "url": STORE}, "'account_name' is none of", id="another store's"),
        pytest.param(
            {"options": {"aws_secret_access_key": "k"}, "url": STORE},
            "outputStore.options: 'aws_secret_access_key' is a secret; make it a key of the Secret that outputStore.secretName names",
            id="a secret",
        ),
        pytest.param({"options": {"skip_signature": True}, "url": "gs://b-c"}, "'skip_signature' is none of", id="not of gs"),
        pytest.param({"options": {"bucket": "other"}, "url": STORE}, "'bucket' is none of", id="another bucket"),
        pytest.param(
            {"options": {"endpoint": "http://minio:9000"}, "url": STORE},
            "outputStore.options.endpoint: 'http://minio:9000' is not encrypted; use https, or allow it with outputStore.options",
            id="plain http",
        ),
    ],
)
def test_a_wrong_setting_is_told_with_its_key_and_the_remedy(given_settings: dict[str, object], said: str) -> None:
    (problem,) = problems(**{"url": "", "secret": "", "options": {}, **given_settings})  # type: ignore[arg-type]
    assert re.search(said, problem), problem


@pytest.mark.parametrize(
    ("url", "option"),
    [
        (STORE, "proxy_url"),
        (STORE, "endpoint"),
        (STORE, "endpoint_url_sts"),
        ("gs://outputs", "base_url"),
        ("az://outputs", "authority_host"),
    ],
)
def test_no_address_among_the_options_has_a_password_or_shows_it(url: str, option: str) -> None:
    for address in ("https://me:pass@proxy.example:3128", "me:pass@proxy.example:3128"):
        (problem,) = problems(url=url, secret="", options={option: address})
        assert problem.startswith(f"outputStore.options.{option}: the address has a user or a password in front of its '@'")
        assert "pass@" not in problem
    plain = list(problems(url=url, secret="", options={option: "HTTP://example.com"}))
    assert ["is not encrypted" in problem for problem in plain] == ([] if option == "proxy_url" else [True])


@pytest.mark.parametrize("allow", [True, "true"])
def test_plain_http_is_used_where_it_is_allowed(allow: str | bool) -> None:
    assert list(problems(url=STORE, secret="", options={"endpoint": "http://minio:9000", "allow_http": allow})) == []


def test_no_option_of_any_store_is_a_secret_or_names_a_place() -> None:
    for name in frozenset().union(CLIENT_OPTIONS, *STORE_OPTIONS.values()) - {"sse_kms_key_id", "sse_bucket_key_enabled"}:
        assert not any(word in name for word in ("secret", "token", "key", "bucket", "container")), name
