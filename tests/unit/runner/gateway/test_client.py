"""The client of the gateway: which replica it asks, how long it tries, what it makes of each refusal and of what is no answer."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest
import trustme
from tests.fakes.gateway_server import HOST, TOKEN, Act, FakeGateway, answering, cut, hang, noise, refusal, reset, serving

from agenttask.api.checkpoint import MAX_CHECKPOINT_BYTES
from agenttask.api.document import GatewayDocument
from agenttask.api.gateway import MAX_RECORD_BYTES, LiveReport, RefusalReason, ReportAnswer, Share
from agenttask.runner.gateway import client as client_module
from agenttask.runner.gateway import exchange
from agenttask.runner.gateway.client import GatewayClient
from agenttask.runner.gateway.errors import Fenced, GatewayError, GatewayRefused, GatewayUnavailable, QuotaExceeded, RecordTooLarge

ONE, TWO = "127.0.0.1", "127.0.0.2"
NOT_LEADER = refusal(503, RefusalReason.NOT_LEADER, "another replica leads", Retry_After="30")


class Bench:
    """A client, the gateway that it asks, and what it was told of its end."""

    def __init__(self, gateway: FakeGateway, document: GatewayDocument, addresses: Sequence[str]) -> None:
        self.gateway = gateway
        self.fenced: list[Fenced] = []
        self.looked_up = 0
        self.addresses: Sequence[str] | OSError = addresses

        async def resolve(host: str, port: int) -> Sequence[str]:
            assert (host, document.url) == (HOST, f"https://{HOST}:{port}")
            self.looked_up += 1
            if isinstance(self.addresses, OSError):
                raise self.addresses
            return self.addresses

        self.client = GatewayClient(document, TOKEN, fenced=self.fenced.append, resolve=resolve, rng=lambda: 0.0)

    @property
    def asked(self) -> list[str]:
        return [line.partition(" ")[0] for line in self.gateway.asked]


@pytest.fixture
def one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are asked once: a second round would begin when the time is over, however long that is."""
    for name in ("_FIRST_PAUSE_SECONDS", "_LONGEST_PAUSE_SECONDS"):
        monkeypatch.setattr(client_module, name, 3600.0)


@asynccontextmanager
async def bench(*addresses: str, gateway: FakeGateway | None = None) -> AsyncIterator[Bench]:
    found = gateway or FakeGateway()
    async with serving(found, addresses or (ONE,)) as document:
        made = Bench(found, document, addresses or (ONE,))
        try:
            yield made
        finally:
            await made.client.aclose()


async def test_what_is_kept_is_there_for_the_next_attempt() -> None:
    async with bench() as it:
        assert await it.client.checkpoint(seconds=60) is None
        await it.client.keep_checkpoint(b'{"a":1}', seconds=60)
        assert await it.client.checkpoint(seconds=60) == b'{"a":1}'
        await it.client.keep_output("ünï".encode(), seconds=60)
        assert it.gateway.output == "ünï"
        assert (it.gateway.tokens, it.gateway.hosts, it.gateway.encodings) == ({f"Bearer {TOKEN}"}, {HOST}, {"identity"})


async def test_the_largest_checkpoint_goes_both_ways() -> None:
    async with bench() as it:
        await it.client.keep_checkpoint(b"x" * MAX_CHECKPOINT_BYTES, seconds=60)
        assert await it.client.checkpoint(seconds=60) == b"x" * MAX_CHECKPOINT_BYTES


async def test_a_report_brings_the_shares_of_limits() -> None:
    async with bench() as it:
        it.gateway.answer = ReportAnswer(limits={"m": Share(concurrent_calls=3)}, next_report_seconds=7)
        assert await it.client.report(LiveReport(started=5), seconds=60) == it.gateway.answer
        assert it.gateway.reports == [LiveReport(started=5)]


async def test_a_replica_that_does_not_lead_makes_way_at_once_whenever_it_wants_to_be_asked_again() -> None:
    async with bench(ONE, TWO) as it:
        it.gateway.always[ONE] = NOT_LEADER
        assert await it.client.checkpoint(seconds=60) is None
        assert it.asked == [ONE, TWO]


async def test_the_leader_is_asked_first_from_then_on_and_no_name_looked_up() -> None:
    async with bench(ONE, TWO) as it:
        it.gateway.always[ONE] = NOT_LEADER
        for _ in range(3):
            await it.client.checkpoint(seconds=60)
        assert (it.asked, it.looked_up) == ([ONE, TWO, TWO, TWO], 1)


async def test_when_another_replica_leads_by_now_it_is_found() -> None:
    async with bench(ONE, TWO) as it:
        await it.client.checkpoint(seconds=60)
        it.gateway.always[ONE] = NOT_LEADER
        await it.client.checkpoint(seconds=60)
        await it.client.checkpoint(seconds=60)
        assert it.asked == [ONE, ONE, TWO, TWO]


async def test_when_nobody_leads_all_are_asked_again_after_a_pause() -> None:
    async with bench(ONE, TWO) as it:
        for address in (ONE, TWO):
            it.gateway.acts[address].append(refusal(503))
        assert await it.client.checkpoint(seconds=60) is None
        assert it.asked == [ONE, TWO, ONE]


async def test_a_server_that_names_a_time_is_not_asked_before() -> None:
    async with bench() as it:
        it.gateway.acts[ONE].append(refusal(429, RefusalReason.BUSY, Retry_After="0.4"))
        began = time.monotonic()
        await it.client.checkpoint(seconds=60)
        assert time.monotonic() - began >= 0.4  # more than the pause that nobody wishes for


async def test_a_leader_that_has_too_much_to_do_is_not_passed_by() -> None:
    async with bench(ONE, TWO) as it:
        it.gateway.acts[ONE].append(refusal(429, RefusalReason.BUSY, Retry_After="0"))
        await it.client.checkpoint(seconds=60)
        assert it.asked == [ONE, ONE]


async def test_a_wish_beyond_the_time_that_is_left_fails_at_once() -> None:
    async with bench() as it:
        it.gateway.always[ONE] = refusal(429, RefusalReason.BUSY, "slow down", Retry_After="600")
        began = time.monotonic()
        with pytest.raises(GatewayUnavailable, match=r"PUT /v1/output within 60 s: 127\.0\.0\.1: status 429: slow down"):
            await it.client.keep_output(b"x", seconds=60)
        assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("act", "told"),
    [
        pytest.param(refusal(500), "status 500", id="server-error"),
        pytest.param(reset, "ServerDisconnectedError|ClientOSError", id="reset"),
        pytest.param(cut, "ClientPayloadError", id="reset-in-the-body"),
        pytest.param(noise, "BadStatusLine|ClientResponseError|ClientOSError", id="no-http"),
        pytest.param(answering(b"x" * 70_000), "more than 65536 bytes", id="too-much"),
    ],
)
@pytest.mark.usefixtures("one_round")
async def test_what_is_no_answer_is_asked_again_elsewhere_and_told_when_nobody_has_one(act: Act, told: str) -> None:
    async with bench(ONE, TWO) as it:
        it.gateway.acts[ONE].append(act)
        assert await it.client.report(LiveReport(), seconds=60) == ReportAnswer()
        assert it.asked[-1] == TWO
        it.gateway.always.update({ONE: act, TWO: act})
        with pytest.raises(GatewayUnavailable, match=told):
            await it.client.report(LiveReport(), seconds=60)


async def test_a_replica_that_never_answers_costs_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_TRY_SECONDS", 0.3)
    async with bench(ONE, TWO) as it:
        it.gateway.always[ONE] = hang
        assert await it.client.checkpoint(seconds=30) is None
        assert it.asked[-1] == TWO


async def test_the_whole_time_is_a_bound_too() -> None:
    async with bench() as it:
        it.gateway.always[ONE] = hang
        with pytest.raises(GatewayUnavailable, match="no answer within"):
            await it.client.checkpoint(seconds=0.1)


@pytest.mark.usefixtures("one_round")
async def test_nobody_there_is_told_by_address() -> None:
    async with bench() as it:
        it.addresses = [TWO]
        with pytest.raises(GatewayUnavailable, match=r"127\.0\.0\.2: ClientConnectorError"):
            await it.client.checkpoint(seconds=60)


async def test_a_name_that_cannot_be_looked_up_is_told_and_addresses_from_before_are_asked() -> None:
    async with bench(ONE, TWO) as it:
        it.addresses = OSError("no such name")
        with pytest.raises(GatewayUnavailable, match="cannot be looked up: no such name"):
            await it.client.checkpoint(seconds=0.4)
        it.addresses = [ONE, TWO]
        await it.client.checkpoint(seconds=60)
        it.addresses = OSError("no such name")
        it.gateway.always[ONE] = NOT_LEADER
        await it.client.checkpoint(seconds=60)
        assert it.asked == [ONE, ONE, TWO]


@pytest.mark.parametrize(
    ("act", "error", "told"),
    [
        pytest.param(refusal(400, RefusalReason.MALFORMED, "what is that"), GatewayRefused, "status 400: what is that", id="malformed"),
        pytest.param(refusal(401, RefusalReason.UNAUTHORIZED, "expired"), GatewayRefused, "status 401: expired", id="token"),
        pytest.param(refusal(413, RefusalReason.TOO_LARGE, "1 of 0"), RecordTooLarge, "status 413: 1 of 0", id="too-large"),
        pytest.param(answering(b"", 302, Location="https://127.0.0.3/"), GatewayRefused, "status 302", id="redirect"),
        pytest.param(answering(b"<html>" * 1000), GatewayRefused, "status 200", id="another-status"),
        pytest.param(answering(b"\xff[[[", 418), GatewayRefused, "status 418$", id="garbage"),
        pytest.param(answering(msgspec.json.encode({"error": "x" * 9999}), 418), GatewayRefused, "x…$", id="endless-words"),
    ],
)
async def test_what_is_refused_is_typed_and_not_tried_again(act: Act, error: type[GatewayError], told: str) -> None:
    async with bench(ONE, TWO) as it:
        it.gateway.always.update({ONE: act, TWO: act})
        with pytest.raises(error, match=told) as caught:
            await it.client.keep_checkpoint(b"x", seconds=60)
        assert (it.asked, it.fenced, len(str(caught.value)) < 400) == ([ONE], [], True)


@pytest.mark.parametrize(("wish", "pause"), [({"Retry_After": "7"}, 7.0), ({}, 5.0), ({"Retry_After": "0"}, 0.1)])
async def test_a_quota_is_told_at_once_in_all_its_words(wish: dict[str, str], pause: float) -> None:
    async with bench(ONE, TWO) as it:
        it.gateway.always[ONE] = refusal(503, RefusalReason.QUOTA_EXCEEDED, f"exceeded quota: {'q' * 253}; raise it", **wish)
        with pytest.raises(QuotaExceeded, match=r"^exceeded quota: q{253}; raise it$") as caught:
            await it.client.keep_output(b"x", seconds=60)
        assert (it.asked, caught.value.retry_after) == ([ONE], pause)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"limits":[]}', b'{"limits":{"m":{"concurrentCalls":"many"}}}', b"[" * 60_000, b"\xff"])
async def test_an_answer_to_a_report_that_is_none_is_typed(body: bytes) -> None:
    async with bench() as it:
        it.gateway.always[ONE] = answering(body)
        with pytest.raises(GatewayRefused, match="the answer to a report is none"):
            await it.client.report(LiveReport(), seconds=60)


async def test_a_newer_controller_may_say_more() -> None:
    async with bench() as it:
        it.gateway.always[ONE] = answering(b'{"limits":{"m":{"concurrentCalls":2,"new":1}},"nextReportSeconds":3,"other":[]}')
        assert await it.client.report(LiveReport(), seconds=60) == ReportAnswer(
            limits={"m": Share(concurrent_calls=2)}, next_report_seconds=3
        )


async def test_a_fenced_attempt_is_told_once_and_asks_nobody_any_more() -> None:
    async with bench(ONE, TWO) as it:
        it.gateway.always[ONE] = refusal(403, RefusalReason.FENCED, "attempt 2 runs")
        for _ in range(3):
            with pytest.raises(Fenced, match="attempt 2 runs"):
                await it.client.keep_checkpoint(b"x", seconds=60)
        assert (it.asked, len(it.fenced), it.fenced[0].reason) == ([ONE], 1, "Lost")


async def test_more_than_a_record_holds_is_not_even_sent() -> None:
    async with bench() as it:
        with pytest.raises(RecordTooLarge, match=f"{MAX_RECORD_BYTES + 1} bytes, at most {MAX_RECORD_BYTES}"):
            await it.client.keep_output(b"x" * (MAX_RECORD_BYTES + 1), seconds=60)
        assert it.asked == []


@pytest.mark.usefixtures("one_round")
async def test_a_certificate_of_another_authority_or_for_another_name_is_not_trusted() -> None:
    async with bench() as it:
        stranger = GatewayDocument(url=f"https://{HOST}:1", ca=trustme.CA().cert_pem.bytes().decode())
        async with serving(it.gateway) as right, serving(it.gateway, host="other.test.svc") as other:
            for document in (
                msgspec.structs.replace(right, ca=stranger.ca),
                msgspec.structs.replace(other, url=other.url.replace("other.test.svc", HOST)),
            ):
                client = GatewayClient(document, TOKEN, fenced=it.fenced.append, resolve=_loopback)
                with pytest.raises(GatewayUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
                    await client.checkpoint(seconds=60)
                await client.aclose()
        assert it.asked == []


async def _loopback(_host: str, _port: int) -> Sequence[str]:
    return [ONE]


async def test_a_ca_that_is_none_is_refused() -> None:
    client = GatewayClient(GatewayDocument(url="https://a:1", ca="no certificate"), TOKEN, fenced=lambda _: None, resolve=_loopback)
    with pytest.raises(GatewayRefused, match="no certificate in PEM"):
        await client.checkpoint(seconds=1)
    await client.aclose()


@pytest.mark.parametrize("url", ["http://a:1", "https://", "a:1", "https://a:99999", "https://a/b", "https://[::1", ""])
def test_a_url_that_is_none_is_refused_before_any_request(url: str) -> None:
    with pytest.raises(GatewayRefused, match="is not https://host:port"):
        GatewayClient(GatewayDocument(url=url, ca=""), TOKEN, fenced=lambda _: None)


async def test_proxy_variables_play_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with bench() as it:
        assert await it.client.checkpoint(seconds=60) is None


async def test_without_a_request_nothing_is_opened() -> None:
    async with bench() as it:
        before = len(asyncio.all_tasks())
        await it.client.aclose()
        assert (len(asyncio.all_tasks()), it.looked_up, it.asked) == (before, 0, [])


async def test_a_refusal_that_comes_before_the_whole_body_was_read_is_understood() -> None:
    async with bench(ONE, TWO) as it:
        it.gateway.always[ONE] = NOT_LEADER
        await it.client.keep_checkpoint(b"x" * MAX_CHECKPOINT_BYTES, seconds=60)
        assert (it.asked, len(it.gateway.checkpoint or b"")) == ([ONE, TWO], MAX_CHECKPOINT_BYTES)
        it.gateway.always[TWO] = refusal(413, RefusalReason.TOO_LARGE, "too much")
        with pytest.raises(RecordTooLarge, match="too much"):
            await it.client.keep_checkpoint(b"x" * MAX_CHECKPOINT_BYTES, seconds=60)
