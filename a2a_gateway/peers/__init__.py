"""Other gateways, and plain OpenAI endpoints: their agents are served here, found, called and paid, and their grants are taken.
Satisfies ports of `runs`.

Above it stands `server`. It knows neither HTTP servers, SQL nor OpenHands; of the wire it uses what a client needs, from
`delegate_tool`.
"""

from a2a_gateway.peers.credential import Identity
from a2a_gateway.peers.directory import PeerDirectory, examine
from a2a_gateway.peers.grant_verifier import GrantVerifier
from a2a_gateway.peers.known_peers import KnownPeers
from a2a_gateway.peers.reconciliation import Reconciler
from a2a_gateway.peers.remote_trees import RemoteTrees
from a2a_gateway.peers.runner import PeerRunner
from a2a_gateway.peers.signing_key import SigningKey

__all__ = [
    "GrantVerifier",
    "Identity",
    "KnownPeers",
    "PeerDirectory",
    "PeerRunner",
    "Reconciler",
    "RemoteTrees",
    "SigningKey",
    "examine",
]
