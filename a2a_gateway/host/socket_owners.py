"""Finds the run whose processes have a socket open, by looking at what its shell has started. Linux only: it reads `/proc`.

Implements `runs.site.AgentProcesses`. Above it stands the door, which knows connections; below it the pool, which knows whose
each shell is. Whatever a shell started stays below it in the tree of processes (`shell_launch`), so the shells of live runs are
looked at, and not the whole machine. Blocking: for threads.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Final

from a2a_gateway.runs.model import RunId

_ROUNDS: Final = 10


class Look(Enum):
    """What a look at a process has shown; `HIDDEN` is one that does not let itself be looked at, and might have the socket."""

    HAS = auto()
    HAS_NOT = auto()
    HIDDEN = auto()


@dataclass(frozen=True, slots=True)
class SocketOwners:
    """Which run a socket belongs to.

    Attributes:
        shells: process ids of the shells that runs have now, each with its run.
        strays: those of processes of agents that are below no shell any more.
    """

    shells: Callable[[], Mapping[int, RunId]]
    strays: Callable[[], Iterable[int]] = tuple

    @property
    def exist(self) -> bool:
        """See `AgentProcesses.exist`."""
        return sys.platform == "linux" and bool(self.shells() or self.strays())

    def run_with_socket(self, inode: int, uid: int) -> RunId | None:
        """See `AgentProcesses.run_with_socket`."""
        wanted = f"socket:[{inode}]", uid
        hidden = False
        for _ in range(_ROUNDS):
            family = self._family()
            looks = {pid: _look(pid, *wanted) for pid in family}
            holder = next((pid for pid, look in looks.items() if look is Look.HAS), None)
            if holder is not None:
                return _known(family[holder])
            hidden = Look.HIDDEN in looks.values()
            if hidden:
                break
            if self._family().keys() <= family.keys():
                return None
            # Somebody came meanwhile, and may have been handed the socket.
        others = {_look(pid, *wanted) for pid in _pids("/proc") if pid not in family}
        # While agents start processes all the time, somebody else who hides gets the benefit of the doubt.
        if Look.HAS in others or (Look.HIDDEN in others and not hidden):
            return None
        raise LookupError("not all processes of agents could be looked at.")

    def _family(self) -> dict[int, RunId | None]:
        """The shells and all processes below them, each with its run; None is that of a stray."""
        family: dict[int, RunId | None] = {**dict.fromkeys(self.strays()), **self.shells()}
        unseen = list(family)
        while unseen:
            pid = unseen.pop()
            for child in _children(pid):
                if child not in family:
                    family[child] = family[pid]
                    unseen.append(child)
        return family


def _known(run_id: RunId | None) -> RunId:
    if run_id is None:
        raise LookupError("a process that an agent has left behind sent it.")
    return run_id


def _children(pid: int) -> Iterator[int]:
    for thread in _entries(f"/proc/{pid}/task"):
        with suppress(FileNotFoundError, ProcessLookupError), Path(thread, "children").open("rb", buffering=0) as children:
            yield from map(int, children.read().split())


def _look(pid: int, link: str, uid: int) -> Look:
    """Look whether one of a process's threads, which may have files of their own, has a socket open that a user has made."""
    found = Look.HAS_NOT
    for thread in _entries(f"/proc/{pid}/task"):
        try:
            for descriptor in _entries(f"{thread}/fd"):
                with suppress(FileNotFoundError, ProcessLookupError):
                    if os.readlink(descriptor) == link:  # noqa: PTH115  # see `_entries`
                        return Look.HAS
        except PermissionError:
            if _may_hide_files(thread, uid):
                found = Look.HIDDEN
    return found


def _may_hide_files(thread: str, uid: int) -> bool:
    """Whether a thread that does not let itself be looked at is of that user, and has not just ended: then it has no files."""
    # The owner of its directory does not tell: it is root for one that hides, and for one that has ended.
    with suppress(OSError), Path(thread, "status").open(encoding="utf-8", errors="replace") as status:
        fields = {name: value.split() for name, _, value in (line.partition(":") for line in status)}
        return fields["State"][0] not in "ZX" and fields["Uid"][1] == str(uid)
    return False


def _pids(directory: str) -> Iterator[int]:
    return (int(name) for entry in _entries(directory) if (name := entry.removeprefix(f"{directory}/")).isdigit())


def _entries(directory: str) -> list[str]:
    """List a directory of `/proc`; nothing if its process has ended. In text, which takes half the time that `Path` does."""
    try:
        return [f"{directory}/{name}" for name in os.listdir(directory)]  # noqa: PTH208
    except (FileNotFoundError, ProcessLookupError):
        return []
