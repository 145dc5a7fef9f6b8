"""What each event of a connection means for its streams."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)

from agenttask.runner.http2.errors import ConnectionLost, MalformedAnswer, StreamRefused
from agenttask.runner.http2.errors import StreamReset as ResetByPeer
from agenttask.runner.http2.fields import RawFields

if TYPE_CHECKING:
    from agenttask.runner.http2.connection import Http2Connection


def receive(connection: "Http2Connection", events: Iterable[Event]) -> None:
    """Take all events, in their order; a connection that one of them ended takes no more."""
    for event in events:
        if connection.error is not None:
            return
        match event:
            case DataReceived():
                _data(connection, event)
            case ResponseReceived() | InformationalResponseReceived():
                _answered(connection, event)
            case StreamEnded():
                if (stream := connection.streams.get(event.stream_id)) is not None:
                    stream.complete()
            case StreamReset():
                _reset(connection, event)
            case WindowUpdated():
                connection.wake_blocked()
            case RemoteSettingsChanged():
                _settings(connection)
            case ConnectionTerminated():
                _goaway(connection, event)
            case _:
                pass  # acknowledgements, priorities, trailers and frames of extensions ask for nothing


def _data(connection: "Http2Connection", event: DataReceived) -> None:
    connection.credit_connection(event.flow_controlled_length)
    stream = connection.streams.get(event.stream_id)
    if stream is not None and stream.sink is not None and not stream.over:
        stream.sink.data(event.data, event.flow_controlled_length)


def _answered(connection: "Http2Connection", event: ResponseReceived | InformationalResponseReceived) -> None:
    stream = connection.streams.get(event.stream_id)
    if stream is None or stream.sink is None or stream.over:
        return
    fields: RawFields = [(bytes(name), bytes(value)) for name, value in event.headers]
    try:
        if isinstance(event, InformationalResponseReceived):
            stream.sink.informational(fields)
        else:
            stream.answered = True
            stream.sink.answered(fields)
    except MalformedAnswer as error:
        connection.reset(stream, ErrorCodes.PROTOCOL_ERROR)
        stream.fail(error)


def _reset(connection: "Http2Connection", event: StreamReset) -> None:
    stream = connection.streams.get(event.stream_id)
    if stream is None:
        return
    if not event.remote_reset:
        stream.fail(MalformedAnswer("the answer is longer or shorter than the content-length that it names"))
    elif event.error_code == ErrorCodes.REFUSED_STREAM:
        stream.fail(StreamRefused("the server refused the stream unprocessed"))
    else:
        stream.fail(ResetByPeer(f"the server reset the stream: {_name(event.error_code)}"))


def _settings(connection: "Http2Connection") -> None:
    connection.framing.bound_table()
    connection.limit = connection.framing.remote_settings.max_concurrent_streams
    if not connection.ready.done():
        connection.ready.set_result(None)
    connection.wake_blocked()  # the initial window may have grown
    connection.capacity_changed()


def _goaway(connection: "Http2Connection", event: ConnectionTerminated) -> None:
    last = event.last_stream_id or 0
    for stream in [stream for number, stream in connection.streams.items() if number > last]:
        stream.fail(StreamRefused("the server is closing the connection and did not process the request"))
    if event.error_code == ErrorCodes.NO_ERROR:
        connection.drain()
        return
    more = f": {event.additional_data[:200]!r}" if event.additional_data else ""
    connection.abort(ConnectionLost(f"the server ended the connection with {_name(event.error_code)}{more}"))


def _name(code: ErrorCodes | int | None) -> str:
    return code.name if isinstance(code, ErrorCodes) else str(code)
