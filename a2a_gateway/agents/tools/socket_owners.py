"""Finds the run whose processes have a socket open, by looking at what its shell has started. Linux only: it reads `/proc`.

Implements `runs.ports.AgentProcesses`. Above it stands the door, which knows connections; below it the pool, which knows whose
each shell is. Whatever a shell started stays below it in the tree of processes (`shell_launch`), so the shells of live runs are
looked at, and not the whole machine. Blocking: for threads.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from a2a_gateway.runs.model import RunId

_ROUNDS: Final = 10


@dataclass(frozen=True, slots=True)
class SocketOwners:
    """Which run a socket belongs to.

    Attributes:
        shells: process ids of the shells that runs have now, each with its run.
    """

    shells: Callable[[], Mapping[int, RunId]]

    @property
    def exist(self) -> bool:
        """See `AgentProcesses.exist`."""
        return sys.platform == "linux" and bool(self.shells())

    def run_with_socket(self, inode: int) -> RunId | None:
        """See `AgentProcesses.run_with_socket`."""
        link = f"socket:[{inode}]"
        for _ in range(_ROUNDS):
            family = self._family()
            try:
                for pid, run_id in family.items():
                    if _has_open(pid, link):
                        return run_id
            except PermissionError:
                break  # a process that does not let itself be looked at
            if self._family() == family:
                return None
            # Somebody came or went meanwhile, and may have handed the socket on.
        if _is_open_elsewhere(link, family):
            return None
        raise LookupError("Some processes of agents could not be looked at, and no other process has the socket open.")

    def _family(self) -> dict[int, RunId]:
        """The shells and all processes below them, each with its run."""
        family = dict(self.shells())
        unseen = list(family)
        while unseen:
            pid = unseen.pop()
            for child in _children(pid):
                if child not in family:
                    family[child] = family[pid]
                    unseen.append(child)
        return family


def _children(pid: int) -> Iterator[int]:
    for thread in _entries(f"/proc/{pid}/task"):
        with suppress(FileNotFoundError, ProcessLookupError), Path(thread, "children").open("rb", buffering=0) as children:
            yield from map(int, children.read().split())


def _has_open(pid: int, link: str) -> bool:
    """Whether one of a process's threads, which may have files of their own, has something open.

    Raises:
        PermissionError: it does not let itself be looked at.
    """
    for thread in _entries(f"/proc/{pid}/task"):
        for descriptor in _entries(f"{thread}/fd"):
            with suppress(FileNotFoundError, ProcessLookupError):
                if os.readlink(descriptor) == link:  # noqa: PTH115  # see `_entries`
                    return True
    return False


def _is_open_elsewhere(link: str, family: Mapping[int, RunId]) -> bool:
    for directory in _entries("/proc"):
        pid = directory.removeprefix("/proc/")
        if pid.isdigit() and int(pid) not in family:
            with suppress(PermissionError):
                if _has_open(int(pid), link):
                    return True
    return False


def _entries(directory: str) -> list[str]:
    """List a directory of `/proc`; nothing if its process has ended. In text, which takes half the time that `Path` does."""
    try:
        return [f"{directory}/{name}" for name in os.listdir(directory)]  # noqa: PTH208
    except (FileNotFoundError, ProcessLookupError):
        return []
