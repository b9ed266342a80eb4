"""Ends everything that a shell started: its jobs, what they started, and what detached itself from both.

Below `shell`; knows pids and environments, nothing of terminals.
"""

import contextlib
from collections.abc import Iterator
from typing import Final

import psutil

MARKER: Final = "AGENT_SHELL"
"""Environment variable that every process of a shell has inherited; its value is the shell's own directory."""

_ROUNDS: Final = 100
_FREEZE_AFTER: Final = 3


def end_descendants(pid: int) -> None:
    """Kill all below a process, until there are none; the process itself stays.

    On Linux nothing escapes: a shell and its keeper take in orphans below them (`shell_launch`). Elsewhere a double fork does.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        shell = psutil.Process(pid)
        nobody = 0
        for number in range(_ROUNDS):
            found = [process for process in shell.children(recursive=True) if _runs(process)]
            # A look takes time: who forks and exits meanwhile shows neither as parent nor as child. A second one has the child.
            nobody = 0 if found else nobody + 1
            if nobody == 2:
                return
            if number >= _FREEZE_AFTER:
                shell.suspend()
            _kill(found)


def end_marked(marker: str) -> None:
    """Kill every process of this user whose environment says that it belongs to the shell, or the folder of shells, `marker`."""
    nobody = 0
    for _ in range(_ROUNDS):
        found = list(_marked(marker))
        # While a program is being replaced by another, its environment cannot be seen. A second look sees it.
        nobody = 0 if found else nobody + 1
        if nobody == 2:
            return
        _kill(found)


def _marked(marker: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        # A process may be gone by now, or be another user's.
        with contextlib.suppress(psutil.Error, OSError):
            value = process.environ().get(MARKER, "")
            if (value == marker or value.startswith(marker + "/")) and _runs(process):
                yield process


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    except psutil.NoSuchProcess:
        return False


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=0.05)
