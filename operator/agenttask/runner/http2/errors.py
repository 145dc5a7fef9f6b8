"""What can go wrong with an HTTP/2 connection, as aiohttp's errors, so that a caller needs to know nothing of HTTP/2.

aiohttp.ClientConnectionError
└── Http2Error
    ├── NotHttp2             the server chose HTTP/1.1 (only where HTTP/2 was insisted on does a caller see it)
    ├── StreamRefused        the server did not touch the request: sending it again is safe
    ├── StreamReset          the server gave up one answer (also a ClientPayloadError)
    ├── MalformedAnswer      one answer is against the protocol (also a ClientPayloadError)
    ├── ConnectionLost       the connection ended under the request (also a ServerDisconnectedError)
    ├── PeerBrokeProtocol    frames that are none, or a flood of them
    └── PeerUnresponsive     no sign of life (also a ServerTimeoutError)
"""

from aiohttp import ClientConnectionError, ClientPayloadError, ServerDisconnectedError, ServerTimeoutError


class Http2Error(ClientConnectionError):
    """Base of all."""


class NotHttp2(Http2Error):
    """The server does not speak HTTP/2 on this connection."""


class StreamRefused(Http2Error):
    """The server did not process the request; it can be sent again, whatever it does."""


class StreamReset(Http2Error, ClientPayloadError):
    """The server ended one answer before its time."""


class MalformedAnswer(Http2Error, ClientPayloadError):
    """One answer's fields or length are against the protocol."""


class ConnectionLost(Http2Error, ServerDisconnectedError):
    """The connection ended; whether the server acted on the request is unknown."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class PeerBrokeProtocol(Http2Error):
    """The peer does not keep to HTTP/2; the connection was closed."""


class PeerUnresponsive(Http2Error, ServerTimeoutError):
    """The peer gave no sign of life when asked for one; the connection was left."""
