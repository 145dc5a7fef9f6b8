"""Imported by Python at the start of Phoenix: refuses to look up names or to connect outside of this machine, and notes it."""

import ipaddress
import os
import sys
from pathlib import Path

_LOG = Path(os.environ["OUTBOUND_LOG"])


def _watch(event, arguments):
    if event == "socket.connect":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else ""
    elif event in {"socket.getaddrinfo", "socket.gethostbyname"}:
        host = arguments[0] or ""
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host and host != "localhost" and not _here(host):
        with _LOG.open("a") as log:
            log.write(f"{event} {host}\n")
        raise OSError(f"{event} to {host} is not allowed")


def _here(host):
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified or host == os.environ["PHOENIX_HOST"]


sys.addaudithook(_watch)
