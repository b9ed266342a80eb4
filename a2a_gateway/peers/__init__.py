"""Peers: other gateways and plain OpenAI endpoints. List their agents, call them, pay for them, and accept their grants.

Implements ports of `runs`; `server` uses it. It knows neither HTTP servers, SQL nor OpenHands. As a client it uses
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
