"""Which addresses a step may connect to, after its host was resolved.

An allowed name may lead anywhere: its owner's DNS answers. Never to where a cloud gives out the node's credentials, to this
pod or its node, or to nobody in particular. Private addresses are other machines of the installation, which its list named.
Whoever connects does so to an address that was checked, and does not resolve the name again.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence

from agenttask.api.errors import ServiceUnavailable, StepFailed
from agenttask_steps.hosts import Target

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a name."""

_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")  # 100.64/10: pods of some clusters
)
_GLOBAL_IPV6 = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LINK_LOCAL = (ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fe80::/10"))
_METADATA = tuple(map(ipaddress.ip_address, ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")))
"""Of clouds that do not use a link-local one."""


async def system_lookup(host: str, port: int) -> Sequence[str]:
    """What the machine's resolver says, in its order."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def checked_addresses(target: Target, *, loopback: bool, lookup: Lookup) -> Sequence[Address]:
    """Where `target` may be connected to, in the resolver's order.

    Args:
        target: an allowed host.
        loopback: whether the installation's list has this very loopback address.
        lookup: resolves names.

    Raises:
        StepFailed: there is no such name, or one of its addresses is forbidden.
        ServiceUnavailable: the resolver does not answer.
    """
    try:
        found = [target.host] if target.address is not None else await lookup(target.host, target.port)
    except socket.gaierror as error:
        what = f"the name {target.host!r} cannot be resolved: {error.strerror}"
        raise (ServiceUnavailable if error.errno == socket.EAI_AGAIN else StepFailed)(what) from error
    except (OSError, UnicodeError) as error:
        raise ServiceUnavailable(f"the name {target.host!r} cannot be resolved: {error}") from error
    addresses = [ipaddress.ip_address(each) for each in found]
    for address in addresses:
        if (kind := forbidden(address, loopback=loopback)) is not None:
            raise StepFailed(f"host {target.host!r} has the address {address}, which is {kind}; steps never connect to such")
    if not addresses:
        raise StepFailed(f"the name {target.host!r} has no address")
    return addresses


def forbidden(address: Address, *, loopback: bool = False) -> str | None:
    """What kind of address it is, where nobody may connect to it; addresses inside of others are looked at."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _inner(address)
        if inner is not None:
            return forbidden(inner)
    if address.is_loopback:
        return None if loopback else "a loopback address"
    for what, found in (
        ("unspecified", address.is_unspecified),
        ("a multicast address", address.is_multicast),
        ("a link-local address", any(address in network for network in _LINK_LOCAL)),
        ("a cloud's metadata address", address in _METADATA),
    ):
        if found:
            return what
    ordinary = any(address in network for network in _PRIVATE) or (
        address.is_global and not address.is_reserved and (address.version == 4 or address in _GLOBAL_IPV6)
    )
    return None if ordinary else "reserved"


def _inner(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a mapped, translated or tunnelled one leads to."""
    if address in _NAT64:
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
