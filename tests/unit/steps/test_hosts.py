"""URLs are read strictly, and held against the installation's list."""

import ipaddress
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask.api.errors import InvalidTask, StepFailed
from agenttask_steps.hosts import AllowedHosts, target_of

LABELS = st.text(string.ascii_lowercase, min_size=1, max_size=12)
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)


def allowed(url, *patterns):
    try:
        AllowedHosts(patterns).check(target_of(url), "f")
    except InvalidTask:
        return False
    return True


@pytest.mark.parametrize(
    ("url", "pattern"),
    [
        ("https://api.example.com/v1", "api.example.com"),
        ("http://api.example.com/v1", "api.example.com"),
        ("https://API.Example.COM./v1", "api.example.com"),
        ("https://api.example.com/v1", "API.example.com."),
        ("https://bücher.example/", "bücher.example"),
        ("https://xn--bcher-kva.example/", "bücher.example"),
        ("https://ex\u3002ample.com/", "ex.ample.com"),
        ("https://a.example.com/", "*.example.com"),
        ("https://a.b.example.com:443/", "*.example.com"),
        ("http://localhost:8080/", "localhost:8080"),
        ("http://127.0.0.1:8080/", "127.0.0.1:8080"),
        ("http://[::1]:8080/", "[::1]:8080"),
        ("http://[0:0::1]/", "::1"),
        ("http://my_service.tools.svc/", "my_service.tools.svc"),
        ("https://example.com#@evil.example", "example.com"),
    ],
    ids=str,
)
def test_what_is_on_the_list_is_allowed(url, pattern):
    assert allowed(url, "other.example.org", pattern)


@pytest.mark.parametrize(
    ("url", "pattern"),
    [
        ("https://example.com/", "*.example.com"),
        ("https://notexample.com/", "*.example.com"),
        ("https://example.com.evil.example/", "example.com"),
        ("https://evil.example/#example.com", "example.com"),
        ("https://evil.example/?u=https://example.com", "example.com"),
        ("https://example.com:8443/", "example.com"),
        ("http://example.com:443/", "example.com"),
        ("https://example.com/", "example.com:8443"),
        ("http://[::ffff:127.0.0.1]/", "127.0.0.1"),
        ("http://127.0.0.2/", "127.0.0.1"),
        ("http://1.2.3.4/", "*.example.com"),
    ],
    ids=str,
)
def test_what_is_not_on_the_list_is_refused(url, pattern):
    assert not allowed(url, pattern)


def test_the_refusal_names_host_and_list():
    with pytest.raises(InvalidTask, match=r"fetch\.url: .*'evil\.example:8080'; hosts it allows: a\.example, b\.example$"):
        AllowedHosts(("a.example", "b.example")).check(target_of("http://evil.example:8080"), "fetch.url")
    with pytest.raises(InvalidTask, match="hosts it allows: none"):
        AllowedHosts(()).check(target_of("http://evil.example"), "fetch.url")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com/",
        "http:example.com",
        "http:/example.com",
        "http:///a",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://@example.com/",
        "https://example.com@evil.example/",
        "https://example.com\\@evil.example/",
        "https://exa mple.com/",
        "https://example.com/\r\nX: y",
        "https://example.com/\t",
        "https://exa%6dple.com/",
        "https://example..com/",
        "https://-example.com/",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://example.com:80:90/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.1/",
        "http://127.1/",
        "http://0177.0.0.1/",
        "http://127.0.0.09/",
        "http://example.0x1/",
        "http://\uff10x7f.1/",
        "http://[fe80::1%25eth0]/",
        "http://[::1/",
        "http://[1.2.3.4]/",
        "http://\udc80.com/",
        f"http://{'a' * 64}.com/",
        f"http://{'a.' * 127}com/",
    ],
    ids=lambda url: ascii(url)[:40],
)
def test_what_two_readers_may_read_differently_is_refused(url):
    with pytest.raises(StepFailed):
        target_of(url)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("https://user:hunter2@example.com/", id="as it is"),
        pytest.param("https://user:hunter2@example.com/a b", id="with a space"),
        pytest.param("ftp://user:hunter2@example.com/", id="another scheme"),
        pytest.param(" https:\\\\user:hunter2@example.com/", id="backslashes"),
    ],
)
def test_a_password_in_a_url_is_not_repeated(url):
    with pytest.raises(StepFailed, match="secretKeyRef") as failed:
        target_of(url)
    assert "hunter2" not in str(failed.value)


@pytest.mark.parametrize(
    "pattern", ["", "*", "*.", "a/b", "a@b", "https://a.example", "a b", "*.1.2.3.4", "a:b", "a:0", "127.1", "a.*.example"], ids=repr
)
def test_a_pattern_that_is_none_is_told(pattern):
    with pytest.raises(InvalidTask, match="is no pattern"):
        AllowedHosts((pattern,))


@pytest.mark.parametrize(
    ("url", "patterns", "itself"),
    [
        ("http://127.0.0.1:80", ("127.0.0.1",), True),
        ("http://localhost", ("localhost",), True),
        ("http://localhost.", ("LOCALHOST",), True),
        ("http://api.example", ("api.example",), False),
        ("http://a.localhost", ("*.localhost",), False),
        ("http://localhost:81", ("localhost",), False),
    ],
    ids=["address", "localhost", "localhost-written-otherwise", "name", "below", "other-port"],
)
def test_only_a_literal_address_or_localhost_means_a_loopback_address(url, patterns, itself):
    assert AllowedHosts(patterns).names_itself(target_of(url)) is itself


@given(NAMES, st.sampled_from(["http", "https"]), st.integers(1, 65535))
def test_a_name_is_allowed_by_itself_however_it_is_written(name, scheme, port):
    if not name.rpartition(".")[2].isdigit():
        assert allowed(f"{scheme.upper()}://{name.upper()}.:{port}/x", f"{name}:{port}")
        assert not allowed(f"{scheme}://x{name}:{port}/", f"{name}:{port}")
        assert allowed(f"{scheme}://x.{name}:{port}/", f"*.{name}:{port}")


@given(
    st.text(max_size=40),
    st.sampled_from(["https://{}", "https://{}.example.com/", "https://example.com{}", "https://example.com{}@evil.example"]),
)
def test_whatever_is_allowed_leads_below_the_list(text, form):
    try:
        target = target_of(form.replace("{}", text))
        AllowedHosts(("*.example.com", "example.com")).check(target, "f")
    except (StepFailed, InvalidTask):
        return
    assert target.host == "example.com" or target.host.endswith(".example.com")
    assert target.url.raw_host == target.host
    assert target.url.user is None


@given(st.ip_addresses())
def test_an_address_is_read_as_itself(address):
    target = target_of(f"http://[{address}]/" if address.version == 6 else f"http://{address}/")
    assert ipaddress.ip_address(target.host) == address
