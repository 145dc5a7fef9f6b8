"""Ports for programs that can only be told a number."""

import random
import socket
from contextlib import suppress


def free_port() -> int:
    """One of 127.0.0.1 that nobody has, below those that the kernel gives to whoever asks for any: it stays free until it is used."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
