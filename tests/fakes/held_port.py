"""A port for a program that takes nothing but its number: nobody else gets it before the program listens there."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_port(host: str = "127.0.0.1") -> Iterator[int]:
    """A free port of an address, bound and without a listener while the block lasts.

    The kernel gives it to no connection and to no other server that asks for any port; one that names it and sets SO_REUSEADDR, as
    servers of asyncio and of Go do, binds it beside us and listens.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((host, 0))
        port: int = held.getsockname()[1]
        yield port
