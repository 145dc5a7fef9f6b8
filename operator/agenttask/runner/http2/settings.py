"""The numbers of HTTP/2, in one place; each is bounded by what it protects."""

from typing import Literal

from msgspec import Struct

Http2Mode = Literal["Auto", "Disabled", "PriorKnowledge"]
"""As AgentModel's `http2`: by ALPN over TLS; never; always, without TLS too (h2c)."""


class Http2Settings(Struct, frozen=True, kw_only=True):
    """How connections are made, shared, watched and left."""

    streams_per_connection: int = 32
    """Beyond them another connection is dialled: all streams of one share a congestion window."""
    connections_per_origin: int = 8
    connections: int = 100
    connect_seconds: float = 60.0
    """For a dial that several requests wait for; each has its own `ClientTimeout.connect` besides."""
    patience_seconds: float = 1.0
    """How long a request waits for a dial where another connection could take it beyond the soft cap."""
    dial_again_seconds: float = 5.0
    """After a failed dial, where other connections can take the requests meanwhile."""
    ping_after_seconds: float = 15.0
    """Silence on a connection with open streams, after which it is asked for a sign of life."""
    ping_seconds: float = 10.0
    """How long the answer may take; then the peer counts as gone."""
    suspect_seconds: float = 1.0
    """A request that was given up after so long a silence puts its connection under suspicion: no new streams until a byte comes."""
    idle_seconds: float = 60.0
    max_age_seconds: float = 1800.0
    """Then a connection takes no new streams: addresses behind a name change, and a balancer gets to spread the load anew."""
    remember_seconds: float = 600.0
    """How long an origin that chose HTTP/1.1 is not asked again."""
    close_seconds: float = 2.0
    """How long a closing TLS connection may take over its goodbye."""
    stream_window: int = 1 << 20
    """Bytes of one answer that may wait for their reader here; more stay with the server."""
    connection_window: int = 1 << 24
    header_bytes: int = 1 << 16
    """The fields of one answer, decoded."""
    control_frames: int = 1000
    """Frames without content that a peer may send at once; `control_frames_per_second` more as time goes by."""
    control_frames_per_second: float = 20.0
    sends: int = 8
    """How often one request is sent, where the server says each time that it did not touch it."""
