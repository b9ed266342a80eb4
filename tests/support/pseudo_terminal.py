"""A command on a real pseudo-terminal: what a user sees and types."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

CTRL_C, CTRL_D = "\x03", "\x04"
_ERASED = re.compile(r"[^\n]*\r\x1b\[2K")
_OF_A_TERMINAL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# The terminal becomes the controlling one, so that Ctrl-C is a signal.
_START = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"


@dataclass
class PseudoTerminal:
    """A command that runs on a terminal.

    Attributes:
        shown: all that it has written, with the escapes that move the cursor.
    """

    process: "subprocess.Popen[bytes]"
    controller: int
    shown: str = ""
    _read_to: int = field(default=0, repr=False)

    @property
    def plain(self) -> str:
        """The lines that remain of what it has written, without colours."""
        return _OF_A_TERMINAL.sub("", _ERASED.sub("", self.shown)).replace("\r\n", "\n")

    def type(self, text: str) -> None:
        os.write(self.controller, text.encode())

    def wait_for(self, pattern: str, *, timeout_s: float = 60) -> str:
        """Wait until the command has written what a pattern finds after the last finding; return that."""
        deadline = time.monotonic() + timeout_s
        while (found := re.compile(pattern).search(self.shown, self._read_to)) is None:
            assert time.monotonic() < deadline, f"no {pattern!r} in {self.shown!r}"
            assert self._receive(), f"the command ended without {pattern!r}: {self.shown!r}"
        self._read_to = found.end()
        return found[0]

    def wait(self) -> int:
        """Wait for the end of the command; return its exit code."""
        while self._receive():
            pass
        return self.process.wait()

    def _receive(self) -> bool:
        if not select.select([self.controller], [], [], 60)[0]:
            raise TimeoutError(f"the command has written nothing for a minute: {self.shown!r}")
        try:
            data = os.read(self.controller, 65_536)
        except OSError:  # on Linux this means that the other side is closed
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)


@contextmanager
def pseudo_terminal(
    *arguments: str, environ: Mapping[str, str], columns: int = 80, stdout: int | None = None, stdin: int | None = None
) -> Iterator[PseudoTerminal]:
    """Run `a2a-gateway` on a terminal of so many columns.

    Args:
        stdout: descriptor that takes the place of the terminal for standard output.
        stdin: the same for standard input; the terminal then cannot send Ctrl-C.
    """
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [sys.executable, "-m", "a2a_gateway", *arguments]
    prefix = [sys.executable, "-S", "-c", _START] if stdin is None else []
    with subprocess.Popen(
        [*prefix, *command],
        env={**os.environ, "TERM": "xterm-256color", **environ},
        stdin=terminal if stdin is None else stdin,
        stdout=terminal if stdout is None else stdout,
        stderr=terminal,
        start_new_session=True,
    ) as process:
        os.close(terminal)
        try:
            yield PseudoTerminal(process, controller)
        finally:
            process.kill()
            os.close(controller)
