"""Hide the gateway's secrets from processes of its user: remove them from the environment, and forbid inspection.

An agent's shell gets an environment of its own (`shell_pool`), but it runs as the gateway's user and can read
`/proc/<gateway>/environ`. So the composition root reads the secrets, then calls these functions. A process that may trace the
gateway (root, `CAP_SYS_PTRACE`) can still read its memory: only a sandbox is a security boundary.
"""

import ctypes
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_PR_SET_DUMPABLE: Final = 4
# Fields 50 and 51 of proc_pid_stat(5), counted from the field after the process name, which may contain any character.
_ENV_START, _ENV_END = 47, 48


def scrub_environment(names: Iterable[str]) -> None:
    """Remove variables from `os.environ` and, on Linux, overwrite their values in `/proc/self/environ`.

    Read the secrets first. Afterwards no code, and no library, can read them from the environment.
    """
    secret = frozenset(names)
    for name in secret:
        os.environ.pop(name, None)
    if sys.platform == "linux":
        _overwrite_initial_values(secret)


def forbid_inspection() -> bool:
    """Forbid other processes of this user to read `/proc/<pid>/{environ,mem,fd,…}` of this process; disable its core dumps.

    Linux only; return whether it succeeded. Programs that this process starts are not affected, because `exec` resets it.
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
    """Return the addresses of the environment that the kernel gave the process: the first, and the one after the last."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        return int(fields[_ENV_START]), int(fields[_ENV_END])
    except (OSError, ValueError, IndexError):
        return 0, 0
