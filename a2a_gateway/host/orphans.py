"""Processes of agents that have come to the gateway because nobody above them was left: an agent had killed its shell's keeper.

Linux only, and only in a process that is the gateway's own: an application around it may start processes of its own.
"""

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_GET_CHILD_SUBREAPER: Final = 37


def take_in_orphans() -> None:
    """Become the parent of whatever below this process loses its own, instead of leaving it to the first process of the machine.

    Those who end must be let go of, now and then: see `orphans`.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def takes_in_orphans() -> bool:
    """Whether this process does."""
    if sys.platform != "linux":
        return False
    answer = ctypes.c_int()
    ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0)
    return bool(answer.value)


def orphans() -> list[int]:
    """Process ids of those who were taken in and live; the others are let go of."""
    # They come to the main thread, and all processes of the gateway are started in others.
    taken_in = map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_bytes().split())
    return [pid for pid in taken_in if not _let_go(pid)]


def _let_go(pid: int) -> bool:
    with suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    return True
