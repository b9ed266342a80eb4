"""The process's own environment, made safe before an agent gets a shell: what is secret is forgotten, and stays forgotten.

An agent's shell gets an environment of its own (`shell_pool`), but it runs as the gateway's user and can read
`/proc/<gateway>/environ`. So the composition root reads the secrets, then calls this. Best effort by nature: a process that may
trace the gateway (root, `CAP_SYS_PTRACE`) can read its memory anyway; only a sandbox is a hard boundary.
"""

import ctypes
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_PR_SET_DUMPABLE: Final = 4
# Counted from the field after the process name, which may hold anything: proc_pid_stat(5), fields 50 and 51.
_ENV_START, _ENV_END = 47, 48


def scrub_environment(names: Iterable[str]) -> None:
    """Remove variables from `os.environ` and, on Linux, overwrite their values where `/proc/self/environ` shows them.

    Read the secrets first: nothing can read them from the environment afterwards, no library either.
    """
    doomed = frozenset(names)
    for name in doomed:
        os.environ.pop(name, None)
    if sys.platform == "linux":
        _overwrite_initial_values(doomed)


def forbid_inspection() -> bool:
    """Close `/proc/<pid>/{environ,mem,fd,…}` of this process to other processes of its user, and switch off its core dumps.

    Linux only; returns whether it is in force. Programs started later are not affected: `exec` resets it.
    """
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)


def _overwrite_initial_values(names: frozenset[str]) -> None:
    start, end = _initial_block()
    if not 0 < start < end:
        return
    block = ctypes.string_at(start, end - start)
    for entry in re.finditer(rb"([^=\0]+)=([^\0]*)", block):
        if os.fsdecode(entry[1]) in names:
            ctypes.memset(start + entry.start(2), 0, len(entry[2]))


def _initial_block() -> tuple[int, int]:
    """Where the kernel put the environment when the process started: first address, address after the last."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        return int(fields[_ENV_START]), int(fields[_ENV_END])
    except (OSError, ValueError, IndexError):
        return 0, 0
