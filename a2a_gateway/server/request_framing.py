"""Divide what a connection receives into pieces for the parser, and bound all that is not content.

httptools keeps as much of a head as comes, and reports no offsets. So it gets content whole, and everything else by lines, which
are counted. Each piece ends where the parser's state may change, so the count is exact however the bytes were sent:

    state           a piece is              bounded         then
    head            the head, or a line     all of it       content, chunk line, or the next head
    content         all of it that is here  elsewhere       the next head
    chunk line      a line                  each            chunk, or trailers where the size is 0
    chunk           as content              elsewhere       chunk line
    trailers        a line                  all of them     the next head

The parser checks each byte and decides what ends a state. Here only lengths are read, after the parser has accepted them.
"""

from collections.abc import Iterable
from typing import Final

from a2a_gateway.errors import BodyTooLarge

HEAD_BYTES: Final = 256 * 1024
"""More than all that a peer's grant and its list of agents can come to."""
_SIZE_DIGITS: Final = 16


class RequestFraming:
    """The place of one connection within its requests."""

    def __init__(self) -> None:
        self._content_bytes = 0
        self._line_bytes = 0
        self._is_chunked = False
        self._chunk_line = b""

    @property
    def is_between_requests(self) -> bool:
        """Whether nothing of a request's head has come."""
        return self._line_bytes == 0

    def next_piece(self, data: bytes, start: int) -> int:
        """Return where the piece that begins at `start` ends.

        Raises:
            BodyTooLarge: the head, a chunk's line or the trailers are larger than the bound.
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
        """Go on with the request's body. Header names are in lower case."""
        framing = dict(headers)
        self._line_bytes = 0
        self._is_chunked = b"transfer-encoding" in framing
        self._content_bytes = 0 if self._is_chunked else int(framing.get(b"content-length", b"0"))

    def complete_chunk_line(self) -> None:
        """Go on with a chunk and the line break after it, or with the trailers."""
        size = int(self._chunk_line.partition(b";")[0], 16)
        self._content_bytes = size + len(b"\r\n") if size else 0
        self._line_bytes, self._chunk_line = 0, b""

    def complete_message(self) -> None:
        """Go on with the next request."""
        self._content_bytes = self._line_bytes = 0
        self._is_chunked, self._chunk_line = False, b""

    def _end_of_lines(self, data: bytes, start: int) -> int:
        if self.is_between_requests and not self._is_chunked:
            head_end = data.find(b"\r\n\r\n", start)
            if head_end >= 0:  # as nearly always: the whole head at once
                return head_end + 4
        line_end = data.find(b"\n", start)
        return len(data) if line_end < 0 else line_end + 1
