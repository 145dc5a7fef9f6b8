"""One suite for what runs put outputs into: the fake, obstore's stores in memory and in a folder, and a real S3 server.

Then what only a server can say: signatures, buckets, regions, failures that pass and such that do not.
"""

import ast
import asyncio
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import obstore
import pytest
import trustme
from aiohttp import web
from msgspec import Struct
from obstore.store import LocalStore, MemoryStore
from tests.conftest import cluster_required
from tests.fakes.object_store import MemoryObjects
from tests.go_install import NoGo
from tests.s3.install import versitygw
from tests.s3.server import ACCESS_KEY, REGION, SECRET_KEY, S3Server

from agenttask.api.document import OutputStoreDocument
from agenttask.api.errors import NotHandedOver, OutputRejected
from agenttask.domain.output_store import CLIENT_OPTIONS, STORE_OPTIONS
from agenttask.runner import objects as module
from agenttask.runner.objects import StoreObjects
from agenttask.runner.output_store import Objects

KEY = "agents/review/7c1f7b9e-0000-4000-8000-000000000001/attempt-1/output"
BUCKET = "outputs"
Read = Callable[[str], Awaitable[bytes]]


class Place(Struct, frozen=True):
    """A store, and how to read what lies in it."""

    objects: Objects
    read: Read


@pytest.fixture(scope="session")
def program() -> Path:
    try:
        return versitygw(print)
    except NoGo as error:
        if cluster_required():
            raise
        pytest.skip(str(error))


def test_a_go_that_is_too_old_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = tmp_path / "go"
    go.write_text('#!/bin/sh\n[ "$1" = version ] && exit\necho "go: $6 requires go >= 1.99 (running go 1.2; GOTOOLCHAIN=local)"; exit 1\n')
    go.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(NoGo, match="is too old for"):
        versitygw(lambda _line: None, cache=tmp_path / "cache")


@pytest.fixture(scope="module")
def server(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(program, tmp_path_factory.mktemp("s3")) as server:
        server.bucket(BUCKET)
        yield server


def document(endpoint: str, *, url: str = f"s3://{BUCKET}/a/prefix", **options: str) -> OutputStoreDocument:
    known = {"endpoint": endpoint, "region": REGION, "allow_http": "true"}
    return OutputStoreDocument(url=url, options={**known, **options}, secret="store-keys")


def secret(**changed: str) -> dict[str, str]:
    return {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY, **changed}


def on_s3(server: S3Server) -> Place:
    async def read(key: str) -> bytes:
        return server.objects(BUCKET)[f"a/prefix/{key}"]

    return Place(StoreObjects(document(server.endpoint), secret()), read)


def of_obstore(store: Any) -> Place:
    async def read(key: str) -> bytes:
        return bytes((await store.get_async(key)).bytes())

    return Place(StoreObjects(OutputStoreDocument(url="s3://unused"), {}, open_store=lambda: store), read)


@pytest.fixture(params=["fake", "memory", "folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    match request.param:
        case "fake":
            fake = MemoryObjects()
            return Place(fake, fake.read)
        case "memory":
            return of_obstore(MemoryStore())
        case "folder":
            return of_obstore(LocalStore(str(tmp_path)))
        case _:
            return on_s3(request.getfixturevalue("server"))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("ünï\x00\r\n".encode(), id="some bytes"),
        pytest.param(b"", id="none"),
        pytest.param(os.urandom(12 * 1024 * 1024 + 1), id="more than two parts"),
    ],
)
async def test_what_was_put_is_there_byte_by_byte(place: Place, content: bytes) -> None:
    await place.objects.put(KEY, content)
    assert await place.read(KEY) == content


async def test_what_is_put_again_takes_the_place_of_what_was_there(place: Place) -> None:
    await place.objects.put(KEY, b"a first try, which was longer")
    await place.objects.put(KEY, b"second")
    assert await place.read(KEY) == b"second"


async def test_two_keys_do_not_meet(place: Place) -> None:
    other = KEY.replace("attempt-1", "attempt-2")
    await asyncio.gather(place.objects.put(KEY, b"one"), place.objects.put(other, b"two"))
    assert (await place.read(KEY), await place.read(other)) == (b"one", b"two")


async def test_the_loop_turns_while_much_is_sent(place: Place) -> None:
    """A `put` that holds the loop up is one gap; a busy machine makes gaps too, and not in each of three."""
    content, longest, shares = b"x" * (64 * 1024 * 1024), 0.0, list[float]()

    async def turning() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0)
            longest = max(longest, time.monotonic() - before)

    await place.objects.put(KEY, b"the library is loaded")
    beside = asyncio.create_task(turning())
    for _ in range(3):
        await asyncio.sleep(0)
        longest, started = 0.0, time.monotonic()
        await place.objects.put(KEY, content)
        whole = time.monotonic() - started
        await asyncio.sleep(0)
        shares.append(longest / whole)
    beside.cancel()
    assert min(shares) < 0.5 or isinstance(place.objects, MemoryObjects)  # which takes no time


# ---- what a server says


@pytest.mark.parametrize("size", [10, 6 * 1024 * 1024], ids=["at once", "in parts"])
@pytest.mark.parametrize(
    ("url", "options", "keys", "said"),
    [
        pytest.param(
            None,
            {},
            {"aws_secret_access_key": "wrong-wrong-wrong"},
            r"403 Forbidden: SignatureDoesNotMatch: The request signature .*; check the Secret 'store-keys', and that it may write there$",
            id="wrong secret",
        ),
        pytest.param(None, {}, {"aws_access_key_id": "AKNOBODY"}, r"40[34] .*: \w+UserNotFound|InvalidAccessKeyId", id="unknown key"),
        pytest.param(
            "s3://no-such-bucket/x", {}, {}, r"404 Not Found: NoSuchBucket: .*; is there such a bucket or account\? See", id="bucket"
        ),
        pytest.param(
            None, {"region": "eu-west-1"}, {}, r"400 Bad Request: AuthorizationHeaderMalformed: .*; check outputStore.options", id="region"
        ),
        pytest.param(None, {"allow_http": "false"}, {}, "builder error.*; check outputStore.options", id="http that is not allowed"),
        pytest.param(
            None, {}, {"aws_secret_acess_key": "x"}, "Configuration key: 'secret_acess_key' is not valid for store 'S3'", id="typo"
        ),
        pytest.param(
            None, {}, {"aws_bucket": "other"}, "Secret 'store-keys' says 'bucket', which outputStore.url says already", id="a bucket"
        ),
        pytest.param(
            None, {}, {"timeout": "5s"}, "Secret 'store-keys' says 'timeout', which is set for all stores; take it out$", id="a client's"
        ),
        pytest.param(None, {"root_certificate": "none"}, {}, "No certificates found in `root_certificate`", id="no certificate"),
        pytest.param(None, {"server_side_encryption": "rot13"}, {}, "Invalid encryption type: rot13", id="an option's value"),
    ],
)
async def test_what_will_not_go_better_is_said_with_address_cause_and_remedy(
    server: S3Server, size: int, url: str | None, options: dict[str, str], keys: dict[str, str], said: str
) -> None:
    told = document(server.endpoint, url=url or f"s3://{BUCKET}/a/prefix", **options)
    with pytest.raises(OutputRejected, match=said) as raised:
        await StoreObjects(told, secret(**keys)).put(KEY, b"x" * size)
    message = str(raised.value)
    assert "take it out" in message or message.startswith(f"the output ({size} bytes) could not be left at {told.url}/{KEY}: ")
    assert not [value for value in secret(**keys).values() if len(value) > 4 and value in message]
    assert raised.value.__cause__ is None  # the library's own words have the request in them
    assert len(message) < 1024


@pytest.mark.parametrize(
    "keys",
    [
        {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY},
        {"access_key_id": f"{ACCESS_KEY}\n", "secret_access_key": f" {SECRET_KEY}\n"},
        {**secret(), "aws_region": REGION, "aws_endpoint": "ENDPOINT", "aws_allow_http": "true"},
    ],
    ids=["capitals", "without prefix, with newlines", "all of it in the Secret"],
)
async def test_keys_of_the_secret_are_written_as_one_likes(server: S3Server, keys: dict[str, str]) -> None:
    given = {name: server.endpoint if value == "ENDPOINT" else value for name, value in keys.items()}
    options = {"endpoint": "http://127.0.0.1:9", "region": "nowhere"} if "aws_region" in keys else document(server.endpoint).options
    await StoreObjects(OutputStoreDocument(url=f"s3://{BUCKET}", options=options), given).put("of-keys", b"x")
    assert server.objects(BUCKET)["of-keys"] == b"x"


async def test_a_store_with_a_certificate_of_a_private_authority(program: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    pem = tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pem)
    with S3Server(program, tmp_path / "s3", certificate=pem) as server:
        server.bucket(BUCKET)
        strange = document(server.endpoint, allow_http="false")
        async with asyncio.timeout(30):  # no retry mends it
            with pytest.raises(
                OutputRejected, match=r"left at s3://outputs/a/prefix/agents/.*: its certificate is not trusted, .*root_certi"
            ):
                await StoreObjects(strange, secret()).put(KEY, b"x")
        trusted = document(server.endpoint, allow_http="false", root_certificate=authority.cert_pem.bytes().decode())
        await StoreObjects(trusted, secret()).put(KEY, b"x")
        assert server.objects(BUCKET) == {f"a/prefix/{KEY}": b"x"}


async def test_a_store_that_is_spoken_to_by_tls_and_speaks_none_is_told_at_once() -> None:
    async with scripted(200) as (endpoint, asked), asyncio.timeout(30):
        with pytest.raises(OutputRejected, match="or it speaks no TLS; check"):
            await StoreObjects(document(endpoint.replace("http", "https")), secret()).put(KEY, b"x")
    assert asked == []


async def test_a_host_that_nobody_knows_is_looked_up_again_and_then_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY", {"max_retries": 0})
    objects = StoreObjects(document("https://no-such-host.invalid"), secret())
    try:
        await asyncio.get_running_loop().getaddrinfo("no-such-host.invalid", 443)
    except socket.gaierror as error:
        away = error.errno == socket.EAI_AGAIN
    kind, words = (NotHandedOver, "HTTP error") if away else (OutputRejected, "there is no host of that name; check")
    with pytest.raises(kind, match=words):
        await objects.put(KEY, b"x")


@asynccontextmanager
async def scripted(*answers: int | None) -> AsyncIterator[tuple[str, list[str]]]:
    """A server with these statuses, the last one for ever; None breaks the connection off. Its base URL, and what it was asked."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        status = answers[min(len(asked), len(answers) - 1)]
        asked.append(request.method)
        if status is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        code = CODES.get(status, "Busy")
        body = f"<Error><Code>{code}</Code><Message>m{SECRET_KEY}</Message></Error>" if status != 200 else ""
        return web.Response(status=status, headers={"ETag": '"1"'}, text=body)

    async with served(answer) as url:
        yield url, asked


@asynccontextmanager
async def served(answer: Callable[[web.Request], Awaitable[web.StreamResponse]], tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The base URL of a server on a free port."""
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield f"http{'s' if tls else ''}://localhost:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


CODES = {400: "RequestTimeout", 403: "RequestTimeTooSkewed", 409: "OperationAborted"}


@pytest.mark.parametrize(
    "answers",
    [(503, 500, 200), (None, None, 200), (429, 200), (400, 409, 403, 503, 200)],
    ids=["server errors", "broken off", "too many", "S3's own, which the library takes for final"],
)
async def test_what_passes_is_tried_again(answers: tuple[int | None, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setitem(module._RETRY, "backoff", {"init_backoff": module.timedelta(milliseconds=1)})
    async with scripted(*answers) as (endpoint, asked):
        await StoreObjects(document(endpoint), secret()).put(KEY, b"x")
    assert asked == ["PUT"] * len(answers)


@pytest.mark.parametrize(
    ("answers", "said"),
    [((503,), r"503 Service Unavailable: Busy: m\*\*\*$"), ((None,), r"HTTP error: error sending request")],
    ids=["server errors", "broken off"],
)
async def test_what_does_not_pass_in_time_may_pass_in_the_next_attempt(
    answers: tuple[int | None, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY", {"max_retries": 1, "backoff": {"init_backoff": module.timedelta(milliseconds=1)}})
    async with scripted(*answers) as (endpoint, asked):
        with pytest.raises(NotHandedOver, match=said):
            await StoreObjects(document(endpoint), secret()).put(KEY, b"x")
    assert len(asked) == 3


@pytest.mark.parametrize("status", CODES)
async def test_what_only_s3_says_is_tried_again_for_a_time(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is over when the third answer is there, however long those before it took."""
    monkeypatch.setattr(module, "_FIRST_PAUSE_SECONDS", 0.01)
    async with scripted(status) as (endpoint, asked):
        loop = asyncio.get_running_loop()
        clock = loop.time
        monkeypatch.setattr(loop, "time", lambda: clock() + (module._AGAIN_TIME.total_seconds() if len(asked) > 2 else 0.0))
        with pytest.raises(NotHandedOver, match=CODES[status]):
            await StoreObjects(document(endpoint), secret()).put(KEY, b"x")
    assert len(asked) == 3


async def test_a_store_that_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY", {"max_retries": 0})
    with pytest.raises(NotHandedOver, match="HTTP error"):
        await StoreObjects(document("http://127.0.0.1:1"), secret()).put(KEY, b"x")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        (
            "store-keys",
            "has no credential of the store among its keys; add one, or take outputStore.secretName out for the identity of the pod",
        ),
        ("", "the pod has no identity at the store: name a Secret in outputStore.secretName, or give its service account one"),
    ],
)
async def test_a_pod_that_is_nobody_is_told_what_it_lacks(name: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY", {"max_retries": "nobody is asked" if name else 0})
    for variable in [each for each in os.environ if each.startswith("AWS_")]:
        monkeypatch.delenv(variable)
    options = {"endpoint": "http://127.0.0.1:1", "allow_http": "true"}
    keys = {"aws_region": "eu"} if name else {}
    options |= {} if name else {"metadata_endpoint": "http://127.0.0.1:1"}
    with pytest.raises(OutputRejected) as raised:
        await StoreObjects(OutputStoreDocument(url=f"s3://{BUCKET}", options=options, secret=name), keys).put(KEY, b"x")
    assert str(raised.value).endswith(remedy)


ASSUMED = """<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>
<AccessKeyId>AKASSUMED</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>session</SessionToken>
<Expiration>2100-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""


async def test_without_a_secret_the_pods_web_identity_is_changed_for_a_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a webhook of the cluster gives it to the pods of a service account: a token in a file, and a role."""
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "token").write_text("a-token-of-the-cluster")
    asked: list[tuple[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        if request.method == "POST":
            asked.append((request.query["Action"], request.query["WebIdentityToken"]))
            return web.Response(text=ASSUMED)
        asked.append((request.headers["Authorization"].partition("/")[0], request.headers["X-Amz-Security-Token"]))
        return web.Response(headers={"ETag": '"1"'})

    async with served(answer, tls) as sts, served(answer) as store:
        for name, value in {
            "SSL_CERT_FILE": str(tmp_path / "ca.pem"),
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
            "AWS_ROLE_ARN": "arn:aws:iam::1:role/agents",
            "AWS_ENDPOINT_URL_STS": sts,
        }.items():
            monkeypatch.setenv(name, value)
        await StoreObjects(msgspec.structs.replace(document(store), secret=""), {}).put(KEY, b"x")
    assert asked == [
        ("AssumeRoleWithWebIdentity", "a-token-of-the-cluster"),
        ("AWS4-HMAC-SHA256 Credential=AKASSUMED", "session"),
    ]


# ---- the client knows what the settings allow

ANY: Mapping[str, str] = {
    "checksum_algorithm": "sha256",
    "endpoint": "https://store.example",
    "proxy_url": "http://proxy.example:3128",
    "server_side_encryption": "AES256",
    "base_url": "https://store.example",
    "authority_host": "https://login.example",
}


@pytest.mark.parametrize(
    ("scheme", "option"), [(scheme, name) for scheme, names in STORE_OPTIONS.items() for name in sorted(names | CLIENT_OPTIONS)]
)
def test_every_option_that_may_be_set_is_one_that_the_client_has(scheme: str, option: str) -> None:
    value = trustme.CA().cert_pem.bytes().decode() if option == "root_certificate" else ANY.get(option, "true")
    keys = {"s3": secret(), "gs": {"google_skip_signature": "true"}, "az": {"azure_storage_account_key": "a2V5", "account_name": "me"}}[
        scheme
    ]
    told = OutputStoreDocument(url=f"{scheme}://outputs/x", options={option: value})
    assert StoreObjects(told, keys)._client() is not None


def test_no_option_of_the_client_reaches_a_store_where_the_library_would_break() -> None:
    """As the library's own list has them, which is no code: names of a class in a stub."""
    stub = (Path(obstore.__file__).parent / "_store" / "_client.pyi").read_text()
    (found,) = [each for each in ast.parse(stub).body if isinstance(each, ast.ClassDef)]
    names = {each.target.id for each in found.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)}
    assert len(names) > 15
    assert names <= module._OF_THE_CLIENT | CLIENT_OPTIONS


def test_no_message_shows_the_secret() -> None:
    assert repr(StoreObjects(document("http://x"), secret())) == "StoreObjects(s3://outputs/a/prefix)"
