"""Adopt processes of agents whose shell's keeper was killed by an agent: the gateway becomes their parent.

Linux only, and only in a process that belongs to the gateway. A host application may have child processes of its own.
"""

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_GET_CHILD_SUBREAPER: Final = 37


def become_parent_of_orphans() -> None:
    """Become the parent of descendants that lose their own parent, in place of the machine's first process.

    Orphans that have ended must be reaped from time to time: see `live_orphans`.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def is_parent_of_orphans() -> bool:
    """Return whether this process becomes the parent of orphans."""
    if sys.platform != "linux":
        return False
    answer = ctypes.c_int()
    ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0)
    return bool(answer.value)


def live_orphans() -> list[int]:
    """Return the process ids of the orphans that are alive, and reap those that have ended."""
    # Orphans become children of the main thread. Other threads start all processes of the gateway.
    children = map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_bytes().split())
    return [pid for pid in children if not _reap(pid)]


def _reap(pid: int) -> bool:
    with suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    return True
