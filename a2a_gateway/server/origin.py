"""Where a request comes from, apart from its credential: whether an agent of this gateway has sent it.

A key starts trees. In the hands of an agent, which has a shell and may have found the key in some file, it would make the agent
the root of a tree of its own, with none of its run's limits. So whoever presents a key from this machine is looked at: a process
that descends from an agent's shell speaks for that agent's run. Best effort, for Linux; SECURITY.md says what it does not see.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from a2a_gateway.errors import RootKeyFromAgent
from a2a_gateway.host.tcp_sockets import Address, client_socket, sockets_can_be_asked_for
from a2a_gateway.runs.model import RunId
from a2a_gateway.runs.site import AgentProcesses
from a2a_gateway.settings import AgentKeyUse

_REMEDY = "An agent delegates with its tool `delegate`, which needs no key; A2A_AGENT_KEY_USE sets what becomes of this."


def can_tell() -> bool:
    """Whether this machine tells whose a connection is: Linux does, unless a sandbox around it withholds that."""
    return sockets_can_be_asked_for() and Path("/proc/thread-self/children").exists()


@dataclass(frozen=True, slots=True)
class Connection:
    """The two ends of the connection that a request came by."""

    client: Address
    server: Address

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> Self | None:
        """Read them from an ASGI scope; None if it does not tell both, as with a Unix socket."""
        client, server = scope.get("client"), scope.get("server")
        if not client or not server or server[1] is None:
            return None
        return cls((client[0], client[1]), (server[0], server[1]))


@dataclass(frozen=True, slots=True)
class Origins:
    """Finds the run behind a connection, and says what a key means that comes from one."""

    processes: AgentProcesses
    use: AgentKeyUse

    async def parent_of(self, connection: Connection | None) -> RunId | None:
        """Find the run of which a request with a key is a child; None if it is no agent's.

        Raises:
            RootKeyFromAgent: it is an agent's, or may be, and agents may not use keys.
        """
        # Asked for every request: a connection may be handed on, and its numbers are used again.
        if self.use == "allow" or connection is None or not self.processes.exist:
            return None
        try:
            run_id = await asyncio.to_thread(self._run_behind, connection)
        except (LookupError, OSError) as error:
            why = error if isinstance(error, LookupError) else "the system did not tell who sent it."
            raise RootKeyFromAgent(f"A key came from this machine while agents were at work, and {why} {_REMEDY}") from None
        if run_id is None or self.use == "child":
            return run_id
        raise RootKeyFromAgent(
            f"A key was presented by a process of run {run_id}. {_REMEDY}",
            details={"run_id": run_id},
        )

    def _run_behind(self, connection: Connection) -> RunId | None:
        socket = client_socket(connection.client, connection.server)
        if socket is None:
            return None
        if socket.inode == 0:
            raise LookupError("who sent it had gone before it could be looked at.")
        return self.processes.run_with_socket(*socket)
