"""Other gateways, and plain OpenAI endpoints: their agents are served here, found, called and paid, and their grants are taken.
Satisfies ports of `runs`.

Above it stands `server`. It knows neither HTTP servers, SQL nor OpenHands; of the wire it uses what a client needs, from
`delegate_tool`.
"""

from a2a_gateway.peers.credential import Identity
from a2a_gateway.peers.directory import PeerDirectory, examine
from a2a_gateway.peers.issuers import Issuers
from a2a_gateway.peers.reconcile import Reconciler
from a2a_gateway.peers.roster import Roster
from a2a_gateway.peers.runner import PeerRunner
from a2a_gateway.peers.signing_key import SigningKey
from a2a_gateway.peers.trees import FarTrees

__all__ = [
    "FarTrees",
    "Identity",
    "Issuers",
    "PeerDirectory",
    "PeerRunner",
    "Reconciler",
    "Roster",
    "SigningKey",
    "examine",
]
