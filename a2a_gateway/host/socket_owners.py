"""Find the run whose processes have a socket open, by searching the processes of its shell. Linux only: it reads `/proc`.

Implements `runs.site.AgentProcesses`. Processes that a shell started stay below it in the process tree (`shell_launch`), so
only the shells of live runs are searched, not the whole machine. Blocking: for threads.

A process that cannot be inspected (`HIDDEN`) might have the socket. The rule is to raise an error unless it is certain that no
process of an agent has it: all of them were inspected, or a process that is not an agent's has the socket.
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


class Inspection(Enum):
    """The result of inspecting a process. A `HIDDEN` process cannot be inspected, and might have the socket."""

    HAS = auto()
    HAS_NOT = auto()
    HIDDEN = auto()


@dataclass(frozen=True, slots=True)
class SocketOwners:
    """Finds the run to which a socket belongs.

    Attributes:
        shells: returns the process ids of the shells that runs have now, each with its run.
        strays: returns the process ids of agents' processes that are not below a shell any more.
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
            found = {pid: _inspect(pid, *wanted) for pid in family}
            holder = next((pid for pid, result in found.items() if result is Inspection.HAS), None)
            if holder is not None:
                return _require_run(family[holder])
            hidden = Inspection.HIDDEN in found.values()
            if hidden:
                break
            if self._family().keys() <= family.keys():
                return None
            # A process has started meanwhile, and may have inherited the socket.
        others = {_inspect(pid, *wanted) for pid in _pids("/proc") if pid not in family}
        # If agents only start processes all the time, a hidden process that is not an agent's is assumed to have the socket.
        if Inspection.HAS in others or (Inspection.HIDDEN in others and not hidden):
            return None
        raise LookupError("not all processes of agents could be inspected.")

    def _family(self) -> dict[int, RunId | None]:
        """Return the shells and all processes below them, each with its run, or None for a stray."""
        family: dict[int, RunId | None] = {**dict.fromkeys(self.strays()), **self.shells()}
        unseen = list(family)
        while unseen:
            pid = unseen.pop()
            for child in _children(pid):
                if child not in family:
                    family[child] = family[pid]
                    unseen.append(child)
        return family


def _require_run(run_id: RunId | None) -> RunId:
    if run_id is None:
        raise LookupError("a process of an agent that has outlived its shell sent it.")
    return run_id


def _children(pid: int) -> Iterator[int]:
    for thread in _entries(f"/proc/{pid}/task"):
        with suppress(FileNotFoundError, ProcessLookupError), Path(thread, "children").open("rb", buffering=0) as children:
            yield from map(int, children.read().split())


def _inspect(pid: int, link: str, uid: int) -> Inspection:
    """Return whether a thread of a process has a socket open that `uid` created. Threads may have files of their own."""
    found = Inspection.HAS_NOT
    for thread in _entries(f"/proc/{pid}/task"):
        try:
            for descriptor in _entries(f"{thread}/fd"):
                with suppress(FileNotFoundError, ProcessLookupError):
                    if os.readlink(descriptor) == link:  # noqa: PTH115  # see `_entries`
                        return Inspection.HAS
        except PermissionError:
            if _may_hide_files(thread, uid):
                found = Inspection.HIDDEN
    return found


def _may_hide_files(thread: str, uid: int) -> bool:
    """Return whether a thread that cannot be inspected belongs to that user and is alive; after its end it has no files."""
    # The owner of its directory is no evidence: it is root for a hidden thread as well as for one that has ended.
    with suppress(OSError), Path(thread, "status").open(encoding="utf-8", errors="replace") as status:
        fields = {name: value.split() for name, _, value in (line.partition(":") for line in status)}
        return fields["State"][0] not in "ZX" and fields["Uid"][1] == str(uid)
    return False


def _pids(directory: str) -> Iterator[int]:
    return (int(name) for entry in _entries(directory) if (name := entry.removeprefix(f"{directory}/")).isdigit())


def _entries(directory: str) -> list[str]:
    """List a directory of `/proc`; empty if its process has ended. With strings, which take half the time of `Path`."""
    try:
        return [f"{directory}/{name}" for name in os.listdir(directory)]  # noqa: PTH208
    except (FileNotFoundError, ProcessLookupError):
        return []
