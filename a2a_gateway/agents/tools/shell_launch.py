"""Becomes the shell of an agent: a program of its own between `fork` and `exec`, where a sandbox's rules would be applied too.

Usage: `python -I -S shell_launch.py PROGRAM ARGUMENT…`, with a terminal as standard input, in a new session. Imports nothing of
the gateway, and as little as it can: its start is part of every shell's start.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import sys
import termios

_PR_SET_CHILD_SUBREAPER = 36
_NICENESS = 10


def main(program: list[str]) -> None:
    """Take the terminal, take in orphans, and become `program`."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    if sys.platform == "linux":
        # A daemon that detaches itself becomes the shell's child again, so that it can be found and ended with the shell.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # What an agent runs must not starve the gateway of its processor.
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    # Python ignores these, and ignoring is inherited: `yes | head` would not end.
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    os.execv(program[0], program)  # noqa: S606  # being a launcher is the point


if __name__ == "__main__":
    main(sys.argv[1:])
