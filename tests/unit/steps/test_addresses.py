"""Where nobody may connect to, whatever DNS says."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask.api.errors import ServiceUnavailable, StepFailed
from agenttask_steps.addresses import checked_addresses, forbidden, system_lookup
from agenttask_steps.hosts import target_of


def of(text):
    return ipaddress.ip_address(text)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_global_and_private_addresses_are_fine(address):
    assert forbidden(of(address)) is None


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.9.9.9", "loopback"),
        ("::1", "loopback"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("fd00:ec2::254", "metadata"),
        ("100.100.100.200", "metadata"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("0.1.2.3", "reserved"),
        ("fec0::1", "reserved"),
        ("::7f00:1", "reserved"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:169.254.169.254", "link-local"),
        ("::ffff:0.0.0.0", "unspecified"),
        ("64:ff9b::a9fe:a9fe", "link-local"),
        ("2002:7f00:1::", "loopback"),
        ("2002:a9fe:a9fe::", "link-local"),
    ],
)
def test_others_are_forbidden(address, kind):
    assert kind in forbidden(of(address))


def test_loopback_is_allowed_where_the_list_says_so_and_nothing_else():
    assert forbidden(of("127.0.0.1"), loopback=True) is None
    assert forbidden(of("::1"), loopback=True) is None
    assert forbidden(of("::ffff:127.0.0.1"), loopback=True) is not None
    assert forbidden(of("169.254.169.254"), loopback=True) is not None


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:", "64:ff9b::"]))
def test_an_address_inside_of_another_is_judged_as_itself(address, prefix):
    assert (forbidden(of(f"{prefix}{address}")) is None) == (forbidden(address) is None)


@given(st.ip_addresses(network="169.254.0.0/16") | st.ip_addresses(network="fe80::/10") | st.ip_addresses(network="ff00::/8"))
def test_no_link_local_or_multicast_address_is_ever_allowed(address):
    assert forbidden(address, loopback=True) is not None


def answers(*addresses):
    async def lookup(host, port):
        return addresses

    return lookup


async def checked(url, lookup, *, loopback=False):
    return await checked_addresses(target_of(url), loopback=loopback, lookup=lookup)


async def test_one_forbidden_address_among_several_is_enough():
    with pytest.raises(StepFailed, match=r"'a\.example' has the address 169\.254\.169\.254, which is a link-local address"):
        await checked("http://a.example", answers("8.8.8.8", "169.254.169.254"))


async def test_the_resolvers_order_is_kept():
    assert await checked("http://a.example", answers("2606:4700::1111", "8.8.8.8")) == [of("2606:4700::1111"), of("8.8.8.8")]


async def test_an_address_is_not_looked_up():
    assert await checked("http://8.8.8.8", None) == [of("8.8.8.8")]
    with pytest.raises(StepFailed, match="link-local"):
        await checked("http://169.254.169.254/latest/meta-data", None)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "again"), ServiceUnavailable),
        (socket.gaierror(socket.EAI_NONAME, "no such name"), StepFailed),
        (OSError(24, "too many open files"), ServiceUnavailable),
    ],
    ids=["again", "no-name", "no-descriptors"],
)
async def test_a_name_that_does_not_resolve_is_told(error, expected):
    async def lookup(host, port):
        raise error

    with pytest.raises(expected, match=r"'a\.example' cannot be resolved"):
        await checked("http://a.example", lookup)


async def test_a_name_without_addresses_is_told():
    with pytest.raises(StepFailed, match="no address"):
        await checked("http://a.example", answers())


async def test_the_machines_resolver_knows_itself():
    assert set(await system_lookup("localhost", 80)) <= {"127.0.0.1", "::1"}
