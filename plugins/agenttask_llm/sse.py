"""Server-sent events, as far as model endpoints use them: bytes in, the data of whole events out.

Every bound is here, because an endpoint may be anybody's: the length of a line, of an event, and of the whole stream.
Chunks may be cut anywhere, inside of a character too: text is decoded line by line.
"""

_LINE_BYTES = 1 << 20
_TOTAL_BYTES = 16 << 20
_BOM = b"\xef\xbb\xbf"


class MalformedStream(ValueError):
    """The bytes are no event stream, or one beyond the bounds."""


class EventStream:
    """A parser that is fed."""

    def __init__(self, *, line_bytes: int = _LINE_BYTES, total_bytes: int = _TOTAL_BYTES) -> None:
        self._line_bytes = line_bytes
        self._total_bytes = total_bytes
        self._total = 0
        self._rest = b""
        self._after_return = False
        self._first = True
        self._lines: list[str] = []
        self._event_bytes = 0

    def feed(self, data: bytes) -> list[str]:
        """The data of the events that `data` completes; those without any keep a connection awake, and are skipped.

        Raises:
            MalformedStream: a line, an event or the stream is too long, or not UTF-8.
        """
        self._total += len(data)
        if self._total > self._total_bytes:
            raise MalformedStream(f"more than {self._total_bytes} bytes")
        if self._after_return and data:  # a line break was cut between its two characters
            data = data.removeprefix(b"\n")
            self._after_return = False
        data = self._rest + data
        self._after_return = data.endswith(b"\r")
        *lines, self._rest = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        if len(self._rest) > self._line_bytes:
            raise MalformedStream(f"a line of more than {self._line_bytes} bytes")
        return [event for line in lines if (event := self._line(line)) is not None]

    def end(self) -> list[str]:
        """The stream is over: an event whose blank line is missing counts, since servers forget it."""
        lines = [self._rest, b""] if self._rest else [b""]
        self._rest = b""
        return [event for line in lines if (event := self._line(line)) is not None]

    def _line(self, line: bytes) -> str | None:
        """The data of the event that this line ends."""
        if self._first:
            line, self._first = line.removeprefix(_BOM), False
        if not line:
            event = "\n".join(self._lines)
            self._lines, self._event_bytes = [], 0
            return event if event.strip() else None
        name, _, value = line.partition(b":")
        if name == b"data":  # comments have no name; event, id and retry say nothing that a completion needs
            self._event_bytes += len(value)
            if max(len(line), self._event_bytes) > self._line_bytes:
                raise MalformedStream(f"an event of more than {self._line_bytes} bytes")
            try:
                self._lines.append(value.removeprefix(b" ").decode())
            except UnicodeDecodeError as error:
                raise MalformedStream(f"not UTF-8: {error}") from error
        return None
