"""Divide what a connection receives into pieces for the parser, and limit the size of all that is not content.

httptools buffers a head of any size, and reports no offsets. So content is passed to it as it arrives, everything else line by
line, and the bytes of the lines are counted. Each piece ends where the parser's state may change, so the count is exact in
whatever pieces the bytes arrive:

    state           one piece                   limit                     next state
    head            the whole head, or a line   `HEAD_BYTES`, in all      content, chunk line, or the next head
    content         all that has arrived        the limit of a body       the next head
    chunk line      a line                      `HEAD_BYTES`, each line   chunk; trailers after a size of 0
    chunk           all that has arrived        the limit of a body       chunk line
    trailers        a line                      `HEAD_BYTES`, in all      the next head

The parser validates each byte and decides where a state ends. Only lengths are read here, after the parser has accepted them.
"""

from collections.abc import Iterable
from typing import Final

from a2a_gateway.errors import BodyTooLarge

HEAD_BYTES: Final = 256 * 1024
"""More than a peer's grant, with the longest list of agents, can have."""
_SIZE_DIGITS: Final = 16


class RequestFraming:
    """Where one connection stands within its present request."""

    def __init__(self) -> None:
        self._content_bytes = 0
        self._line_bytes = 0
        self._is_chunked = False
        self._chunk_line = b""

    @property
    def is_between_requests(self) -> bool:
        """Whether no byte of the next head was received."""
        return self._line_bytes == 0

    def next_piece(self, data: bytes, start: int) -> int:
        """Return where the piece that begins at `start` ends.

        Raises:
            BodyTooLarge: the head, a chunk's line or the trailers exceed the limit.
        """
        if self._content_bytes:
            end = min(len(data), start + self._content_bytes)
            self._content_bytes -= end - start
            return end
        end = self._end_of_lines(data, start)
        self._line_bytes += end - start
        if self._line_bytes > HEAD_BYTES:
            raise BodyTooLarge(f"The head of the request has more than {HEAD_BYTES} bytes. Send fewer, or shorter, headers.")
        if self._is_chunked:
            self._chunk_line = (self._chunk_line + data[start:end])[:_SIZE_DIGITS]
        return end

    def complete_head(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Begin the request's body. Header names are in lower case."""
        framing = dict(headers)
        self._line_bytes = 0
        self._is_chunked = b"transfer-encoding" in framing
        self._content_bytes = 0 if self._is_chunked else int(framing.get(b"content-length", b"0"))

    def complete_chunk_line(self) -> None:
        """Begin a chunk, with the line break after it, or the trailers."""
        size = int(self._chunk_line.partition(b";")[0], 16)
        self._content_bytes = size + len(b"\r\n") if size else 0
        self._line_bytes, self._chunk_line = 0, b""

    def complete_message(self) -> None:
        """Begin the next request."""
        self._content_bytes = self._line_bytes = 0
        self._is_chunked, self._chunk_line = False, b""

    def _end_of_lines(self, data: bytes, start: int) -> int:
        if self.is_between_requests and not self._is_chunked:
            head_end = data.find(b"\r\n\r\n", start)
            if head_end >= 0:  # nearly always, the whole head arrives at once
                return head_end + 4
        line_end = data.find(b"\n", start)
        return len(data) if line_end < 0 else line_end + 1
