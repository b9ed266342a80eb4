"""Find out whether an agent of this gateway has sent a request.

A key starts trees. An agent has a shell, and may have found a key in some file. With it, the agent would start a tree of its own,
without the limits of its run. So the process that sends a key from this machine is identified: if it descends from an agent's
shell, it calls as that agent's run. This is best effort, for Linux; docs/security.md lists what it does not detect.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from a2a_gateway.errors import RootKeyFromAgent
from a2a_gateway.host.tcp_sockets import Address, client_socket, supports_socket_queries
from a2a_gateway.runs.model import RunId
from a2a_gateway.runs.site import AgentProcesses
from a2a_gateway.settings import AgentKeyUse

_REMEDY = "An agent delegates with its tool `delegate`, which needs no key; A2A_AGENT_KEY_USE sets what happens to such keys."


def can_identify_senders() -> bool:
    """Return whether this machine can identify the process behind a connection: Linux can, unless a sandbox prevents it."""
    return supports_socket_queries() and Path("/proc/thread-self/children").exists()


@dataclass(frozen=True, slots=True)
class ConnectionEnds:
    """The two ends of the connection that a request came by."""

    client: Address
    server: Address

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> Self | None:
        """Read them from an ASGI scope; None if it lacks one, as with a Unix socket and in the process."""
        client, server = scope.get("client"), scope.get("server")
        if not client or not server or server[1] is None:
            return None
        return cls((client[0], client[1]), (server[0], server[1]))


@dataclass(frozen=True, slots=True)
class Origins:
    """Finds the run behind a connection, and decides what a key from a run means."""

    processes: AgentProcesses
    agent_key_use: AgentKeyUse

    async def find_parent(self, connection: ConnectionEnds | None) -> RunId | None:
        """Find the run whose agent sent a request with a key; None if no agent sent it.

        Raises:
            RootKeyFromAgent: an agent sent it, or may have, and agents may not use keys.
        """
        # For every request, because a process can pass its connection on, and its port is reused.
        if self.agent_key_use == "allow" or connection is None or not self.processes.exist:
            return None
        try:
            run_id = await asyncio.to_thread(self._run_behind, connection)
        except (LookupError, OSError) as error:
            why = error if isinstance(error, LookupError) else "the system did not identify the sender."
            raise RootKeyFromAgent(
                f"Refused: this API key was sent from the gateway's own machine while agents were running, and {why} {_REMEDY}"
            ) from None
        if run_id is None or self.agent_key_use == "child":
            return run_id
        raise RootKeyFromAgent(
            f"A key was presented by a process of run {run_id}. {_REMEDY}",
            details={"run_id": run_id},
        )

    def _run_behind(self, connection: ConnectionEnds) -> RunId | None:
        socket = client_socket(connection.client, connection.server)
        if socket is None:
            return None
        if socket.inode == 0:
            raise LookupError("the sending process exited before it could be identified.")
        return self.processes.run_with_socket(*socket)
