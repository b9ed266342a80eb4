"""Other gateways, and plain OpenAI endpoints, whose agents are served here: found, called, paid. Satisfies ports of `runs`.

Above it stands `server`. It knows neither HTTP servers, SQL nor OpenHands; of the wire it uses what a client needs, from
`delegate_tool`.
"""

from a2a_gateway.peers.directory import PeerDirectory
from a2a_gateway.peers.reconcile import reconcile_often
from a2a_gateway.peers.runner import PeerRunner

__all__ = ["PeerDirectory", "PeerRunner", "reconcile_often"]
