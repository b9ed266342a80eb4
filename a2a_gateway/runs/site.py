"""A site: a place where runs are executed, with all that the gateway needs to use it.

This process is one site, and the peers together are another. To add one, such as a confined worker or a cluster, write a module
that makes its `Site`, and add that to the list in `server.gateway`. A run belongs to the site that serves its model id. The site
provides the profiles, the runner that executes them, the directories in which their tools work, and the processes on this machine
that belong to them. `dispatch.Sites` selects among all sites.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from a2a_gateway.runs.model import RunId
from a2a_gateway.runs.ports import Profiles, Runner, Workspaces


class AgentProcesses(Protocol):
    """The processes that runs have started on this machine, as far as these can be identified."""

    @property
    def exist(self) -> bool:
        """Whether any may exist; a cheap check."""
        ...

    def run_with_socket(self, inode: int, uid: int) -> RunId | None:
        """Find the run that has a socket open; None if the process that has it belongs to no run. Blocks for about a millisecond.

        Args:
            uid: the user who made the socket.

        Raises:
            LookupError: the process cannot be identified; the message is a clause with the reason.
        """
        ...


@dataclass(frozen=True, slots=True)
class Site:
    """One site; every run is executed on exactly one.

    Attributes:
        name: for people and logs.
        serves: returns whether a model id belongs to the site, even if it has no such agent now. No two sites serve the same id.
        profiles: its agents, by model id.
        workspaces: where its agents' tools work; None if that is elsewhere, so that runs are given no directory.
        processes: those of its agents on this machine; None if they start none here.
        mask: replaces the credentials with which its agents call LLMs in a text.
        gateway_url: OpenAI base URL under which its agents reach this gateway; None for the gateway's own.
    """

    name: str
    serves: Callable[[str], bool]
    profiles: Profiles
    runner: Runner
    workspaces: Workspaces | None = None
    processes: AgentProcesses | None = None
    mask: Callable[[str], str] = str
    gateway_url: str | None = None
