"""Ports that nobody takes between being found free and being served.

A socket that is bound and does not listen keeps its port from everybody who asks for any free one, as outgoing connections do;
who names it may serve there, as long as all of them set SO_REUSEADDR: asyncio's servers and Go's do. Until somebody listens,
connections are refused.
"""

import socket


def held_port() -> tuple[int, socket.socket]:
    """A port of 127.0.0.1, and what holds it until it is closed."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return int(holder.getsockname()[1]), holder
