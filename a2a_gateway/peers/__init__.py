"""Other gateways, and plain OpenAI endpoints, whose agents are served here: found, called, paid. Satisfies ports of `runs`.

Above it stands `server`. It knows neither HTTP servers, SQL nor OpenHands; of the wire it uses what a client needs, from
`delegate_tool`.
"""

from a2a_gateway.peers.directory import PeerDirectory, examine
from a2a_gateway.peers.reconcile import Reconciler
from a2a_gateway.peers.runner import PeerRunner
from a2a_gateway.peers.trees import FarTrees

__all__ = ["FarTrees", "PeerDirectory", "PeerRunner", "Reconciler", "examine"]
