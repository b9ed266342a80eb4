"""How this gateway authenticates to a peer.

| credential | for a run | for other requests |
|---|---|---|
| `OrdinaryKey` | an API key of this gateway at the peer | the same key |
| `SignedGrants` | a grant: a token for this one run, with its limits, new for each attempt | a token that grants no run |

Tokens are signed with the key pair of this gateway, or with a secret that both gateways know.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from a2a_gateway.peer_settings import PeerSettings
from a2a_gateway.peers.grant import CLOCKS_DIFFER_S, Signer, encode_ask, encode_grant
from a2a_gateway.peers.signing_key import SigningKey
from a2a_gateway.runs.model import AdmittedRun, Grant
from a2a_gateway.runs.ports import Clock
from delegate_tool.protocol.context import DelegationContext
from delegate_tool.protocol.limits import limits_of


class Credential(Protocol):
    """Makes the values of the `Authorization` header of requests to one peer."""

    def for_run(self, run: AdmittedRun, asked: DelegationContext) -> str:
        """Return the value for the request that starts a run with the limits `asked`. Called again for each attempt."""
        ...

    def to_ask(self) -> str:
        """Return the value for every other request."""
        ...

    @property
    def secrets(self) -> tuple[str, ...]:
        """The lasting secrets that the peer knows, and may quote in what it sends."""
        ...


@dataclass(frozen=True, slots=True)
class OrdinaryKey:
    """An API key of this gateway at the peer."""

    key: str = field(repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """See `Credential.secrets`."""
        return (self.key,)

    def for_run(self, run: AdmittedRun, asked: DelegationContext) -> str:
        """See `Credential.for_run`."""
        return f"Bearer {self.key}"

    def to_ask(self) -> str:
        """See `Credential.to_ask`."""
        return f"Bearer {self.key}"


@dataclass(frozen=True, slots=True)
class SignedGrants:
    """Grants that this gateway issues to the peer `audience`."""

    issuer: str
    audience: str
    signer: Signer
    clock: Clock

    @property
    def secrets(self) -> tuple[str, ...]:
        """See `Credential.secrets`: the shared secret, if there is one. The peer does not know a private key."""
        return (self.signer.key,) if isinstance(self.signer.key, str) else ()

    def for_run(self, run: AdmittedRun, asked: DelegationContext) -> str:
        """See `Credential.for_run`."""
        record, now = run.record, self.clock.wall()
        grant = Grant(
            issuer=self.issuer,
            run_id=record.id,
            tree_id=record.tree_id,
            jti=secrets.token_urlsafe(16),
            expires_at=now + (record.deadline_at - self.clock.now()) + CLOCKS_DIFFER_S,
            agent=run.profile,
            depth=record.depth,
            policy=limits_of(asked),
            actors=run.actors,
        )
        return "Bearer " + encode_grant(grant, audience=self.audience, signer=self.signer, now=now)

    def to_ask(self) -> str:
        """See `Credential.to_ask`."""
        return "Bearer " + encode_ask(self.issuer, audience=self.audience, signer=self.signer, now=self.clock.wall())


@dataclass(frozen=True, slots=True)
class Identity:
    """The name and the signing key of this gateway, as its peers know them.

    Attributes:
        environ: the environment from which the secrets of peers' settings are read.
    """

    gateway_id: str
    signing_key: SigningKey
    clock: Clock
    environ: Mapping[str, str] = field(repr=False)

    def credential_at(self, peer: PeerSettings) -> Credential:
        """Return the credential for a peer.

        Raises:
            ConfigurationError: a secret that the settings name is missing.
        """
        if peer.has_api_key:
            return OrdinaryKey(peer.read_api_key(self.environ))
        if peer.has_shared_secret:
            signer = Signer("HS256", peer.read_shared_secret(self.environ))
        else:
            signer = Signer("EdDSA", self.signing_key.private, self.signing_key.kid)
        return SignedGrants(self.gateway_id, peer.name, signer, self.clock)
