"""A site: somewhere runs are executed, with all that the gateway must know of the place.

This process is a site, and the peers together are another. A further one, such as a confined worker or a cluster, is a module
that makes its `Site`, and one more item in the list that `server.gateway` gives to `Sites`. A run belongs to the site that serves
its model id, and everything that leads the run asks that site: which agents there are, what executes them, where their tools
work, and which processes on this machine belong to them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from a2a_gateway.runs.model import RunId
from a2a_gateway.runs.ports import Profiles, Runner, Workspaces


class AgentProcesses(Protocol):
    """The processes that runs have started on this machine, as far as they can be distinguished from others."""

    @property
    def exist(self) -> bool:
        """Whether there may be any; costs nothing."""
        ...

    def run_with_socket(self, inode: int, uid: int) -> RunId | None:
        """Find the run one of whose processes has a socket open, that the user `uid` has made; None if another process has it.

        Blocks, about a millisecond.

        Raises:
            LookupError: it cannot be found out; the message is a clause with the reason.
        """
        ...


@dataclass(frozen=True, slots=True)
class Site:
    """One site.

    Attributes:
        name: for people and logs.
        serves: tells whether a model id is one of the site's, whether or not it has such an agent now. Sites share none.
        profiles: its agents, by model id.
        workspaces: where its agents' tools work; None if that is elsewhere, so that runs are given no directory.
        processes: what its agents have started on this machine; None if they start nothing here.
        gateway_url: OpenAI base URL under which its agents reach this gateway; None for the gateway's own.
    """

    name: str
    serves: Callable[[str], bool]
    profiles: Profiles
    runner: Runner
    workspaces: Workspaces | None = None
    processes: AgentProcesses | None = None
    gateway_url: str | None = None
