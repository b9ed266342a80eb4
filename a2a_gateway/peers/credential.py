"""How this gateway shows a peer who it is: by an ordinary key of its own there, or by a token signed for each call."""

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
    """What stands in `Authorization` of a request to one peer."""

    def for_run(self, run: AdmittedRun, asked: DelegationContext) -> str:
        """For the request that has a run executed, within what is asked of the peer. Called anew for each attempt."""
        ...

    def to_ask(self) -> str:
        """For all other requests."""
        ...

    @property
    def secrets(self) -> tuple[str, ...]:
        """The lasting secrets that the peer knows, and may quote."""
        ...


@dataclass(frozen=True, slots=True)
class OrdinaryKey:
    """A key of this gateway at the peer."""

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
        """See `Credential.secrets`: a secret that both sides know; a private key stays here."""
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
    """Who this gateway is to its peers.

    Attributes:
        environ: where the secrets of the settings are read from.
    """

    gateway_id: str
    signing_key: SigningKey
    clock: Clock
    environ: Mapping[str, str] = field(repr=False)

    def credential_at(self, peer: PeerSettings) -> Credential:
        """Find how a peer is shown who asks.

        Raises:
            ConfigurationError: a secret that the settings name is not there.
        """
        if peer.has_api_key:
            return OrdinaryKey(peer.read_api_key(self.environ))
        if peer.has_shared_secret:
            signer = Signer("HS256", peer.read_shared_secret(self.environ))
        else:
            signer = Signer("EdDSA", self.signing_key.private, self.signing_key.kid)
        return SignedGrants(self.gateway_id, peer.name, signer, self.clock)
