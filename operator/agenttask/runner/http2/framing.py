"""The state machine of `h2` as a client needs it; all that leans on parts of `h2` that are not its public face is here.

Four things differ from `h2` itself:
- a graceful GOAWAY is no end: streams that the server still answers go on (`h2` refuses every later frame);
- an answer that is longer or shorter than its content-length ends one stream, not the connection;
- frames without content are counted, and too many end the connection;
- a frame that announces more bytes than allowed is refused by its head: `h2` first waits for all of it.
"""

from collections.abc import Callable

from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, StreamReset
from h2.exceptions import FrameTooLargeError, InvalidBodyLengthError, ProtocolError
from h2.settings import SettingCodes, Settings
from h2.stream import StreamState
from hyperframe.frame import DataFrame, Frame, GoAwayFrame

from agenttask.runner.http2.encoding import FieldEncoder
from agenttask.runner.http2.settings import Http2Settings

_FRAME_HEAD = 9
_RECEIVING = (StreamState.OPEN, StreamState.HALF_CLOSED_LOCAL)
"""In which a piece of an answer is no breach of protocol."""
_SMALL_TABLE = 4096
_MAX_TABLE = 1 << 16


class TooManyControlFrames(ProtocolError):
    """The peer keeps us busy with frames that carry nothing."""

    error_code = ErrorCodes.ENHANCE_YOUR_CALM


class Framing(H2Connection):
    """Bytes to events, and requests to bytes. Fields go out as they are given, and come in unchecked: `fields` does both."""

    def __init__(self, settings: Http2Settings, allow: Callable[[], bool]) -> None:
        super().__init__(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
            )
        )
        self._allow = allow
        self.local_settings = Settings(
            client=True,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.INITIAL_WINDOW_SIZE: settings.stream_window,
                SettingCodes.MAX_HEADER_LIST_SIZE: settings.header_bytes,
            },
        )
        self.decoder.max_header_list_size = settings.header_bytes
        self.encoder = FieldEncoder()

    def receive_data(self, data: bytes) -> list[Event]:  # type: ignore[override]  # theirs takes any buffer; asyncio gives bytes
        """Events; a buffer that cannot become an allowed frame is an error at once."""
        events = super().receive_data(data)
        rest = self.incoming_buffer._data  # noqa: SLF001  # no public way to see what `h2` holds back
        if len(rest) >= _FRAME_HEAD and int.from_bytes(rest[:3], "big") > self.max_inbound_frame_size:
            self._terminate_connection(ErrorCodes.FRAME_SIZE_ERROR)
            raise FrameTooLargeError(f"a frame of {int.from_bytes(rest[:3], 'big')} bytes, allowed are {self.max_inbound_frame_size}")
        return events

    def bound_table(self) -> None:
        """A peer may allow a huge table for compressing fields; ours keeps to a small one."""
        if self.encoder.header_table_size > _MAX_TABLE:
            self.encoder.header_table_size = _SMALL_TABLE
            self.encoder.table_size_changes = [min(size, _SMALL_TABLE) for size in self.encoder.table_size_changes]

    def _receive_frame(self, frame: Frame) -> list[Event]:
        if not (isinstance(frame, DataFrame) and frame.data) and not self._allow():
            raise TooManyControlFrames("too many frames without content")
        if isinstance(frame, DataFrame) and (stream := self.streams.get(frame.stream_id)) and stream.state_machine.state in _RECEIVING:
            answer, events = self._receive_data_frame(frame)  # `h2` does the same, but draws each frame first, for a log that is off
            self._prepare_for_sending(answer)
            return events
        return super()._receive_frame(frame)

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        before: ConnectionState = self.state_machine.state
        answer = super()._receive_goaway_frame(frame)
        if frame.error_code == ErrorCodes.NO_ERROR:
            self.state_machine.state = before
        return answer

    def _receive_data_frame(self, frame: DataFrame) -> tuple[list[Frame], list[Event]]:
        try:
            return super()._receive_data_frame(frame)
        except InvalidBodyLengthError:
            self.reset_stream(frame.stream_id, ErrorCodes.PROTOCOL_ERROR)
            data = DataReceived(stream_id=frame.stream_id, data=b"", flow_controlled_length=frame.flow_controlled_length)
            return [], [data, StreamReset(stream_id=frame.stream_id, error_code=ErrorCodes.PROTOCOL_ERROR, remote_reset=False)]
