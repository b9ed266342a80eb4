"""Split the output of a shell's terminal into the output of commands. Pure: bytes in, text and reports out.

Before each prompt, the shell writes a report to the terminal (`shellrc.bash`): RS, nonce, number of the command, exit code,
directory, RS. The report that carries a command's number marks the end of its output. `feed` removes reports from the output;
`take` returns the text before and after them. Output can contain a copy of a report, but not with the right nonce.
"""

import re
from dataclasses import dataclass
from typing import Final

_KEPT_BYTES: Final = 1024 * 1024
# Controls of a terminal: CSI and OSC sequences, character sets, single-character escapes. They are removed: an agent reads text.
_CONTROLS: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[()*+][0-9A-Za-z]|[=>78@-Z\\^_])")


@dataclass(frozen=True, slots=True)
class Report:
    """The shell's report before a prompt: the number of its last command, the exit code, and the working directory."""

    number: int
    exit_code: int
    working_dir: str


class TerminalOutput:
    """Collects output; keeps the newest megabyte of what has not been taken yet."""

    def __init__(self, nonce: str) -> None:
        """`nonce` distinguishes the shell's reports from forged ones in the output."""
        self._report = re.compile(rb"\x1e" + nonce.encode() + rb";(\d+);(\d+);([^\x1e]*)\x1e")
        self._bytes = bytearray()
        self._searched = 0
        self._clipped = False
        self.last: Report | None = None
        """The newest report."""

    def feed(self, data: bytes) -> None:
        """Add output, and remove reports from it."""
        self._bytes += data
        while found := self._report.search(self._bytes, self._searched):
            self.last = Report(int(found[1]), int(found[2]), found[3].decode(errors="replace"))
            del self._bytes[found.start() : found.end()]
            self._searched = found.start()
        start_of_next = self._bytes.rfind(b"\x1e", self._searched)
        self._searched = len(self._bytes) if start_of_next < 0 else start_of_next
        self._clip()

    def take(self) -> str:
        """Return the output since the last call, as a terminal would show it, and clear it."""
        text = self._bytes.decode(errors="replace")
        if self._clipped:
            text = "[The beginning of the output is lost: it was too long.]\n" + text
        self._bytes.clear()
        self._searched, self._clipped = 0, False
        return _render_as_seen(text)

    def _clip(self) -> None:
        # Up to twice as much is kept, so that long output is not moved in memory for every chunk.
        if len(self._bytes) > 2 * _KEPT_BYTES:
            surplus = len(self._bytes) - _KEPT_BYTES
            del self._bytes[:surplus]
            self._searched = max(0, self._searched - surplus)
            self._clipped = True


def _render_as_seen(text: str) -> str:
    """Remove terminal controls, and of a line that overwrote itself (a progress bar) all but the last version."""
    text = _CONTROLS.sub("", text).replace("\r\n", "\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
