"""Kill all processes that a shell started: its jobs, their children, and processes that detached themselves from both."""

import contextlib
from collections.abc import Iterator
from typing import Final

import psutil

MARKER: Final = "AGENT_SHELL"
"""An environment variable that every process of a shell inherits. Its value is the shell's own directory."""

_ROUNDS: Final = 100
_FREEZE_AFTER: Final = 3


def end_descendants(pid: int) -> None:
    """Kill all descendants of a process, but not the process itself.

    On Linux no process escapes: a shell and its keeper become the parents of orphans below them (`shell_launch`). On other
    systems, a double fork escapes.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        shell = psutil.Process(pid)
        empty_searches = 0
        for number in range(_ROUNDS):
            found = [process for process in shell.children(recursive=True) if _runs(process)]
            # A process that forks and exits during a search may hide its child from it. A second search finds the child.
            empty_searches = 0 if found else empty_searches + 1
            if empty_searches == 2:
                return
            if number >= _FREEZE_AFTER:
                shell.suspend()
            _kill(found)


def end_marked(marker: str) -> None:
    """Kill every process of this user that belongs, by its environment, to the shell or the folder of shells `marker`."""
    empty_searches = 0
    for _ in range(_ROUNDS):
        found = list(_find_marked(marker))
        # During `exec`, the environment of a process cannot be read. A second search sees it.
        empty_searches = 0 if found else empty_searches + 1
        if empty_searches == 2:
            return
        _kill(found)


def _find_marked(marker: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        # A process may have ended, or belong to another user.
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
