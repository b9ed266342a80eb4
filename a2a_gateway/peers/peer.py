"""One peer, as far as it is known now: how it is reached, whether it is well, which agents it has."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from openai import AsyncOpenAI

from a2a_gateway.errors import PeerUnavailable
from a2a_gateway.peers.breaker import Breaker
from a2a_gateway.runs.model import Profile
from a2a_gateway.settings import PeerSettings


@dataclass(slots=True)
class Peer:
    """A peer.

    Attributes:
        profiles: its agents, by the model id under which they are served here.
        unlisted: why it does not list its agents; None if it does.
    """

    settings: PeerSettings
    client: AsyncOpenAI = field(repr=False)
    breaker: Breaker = field(default_factory=Breaker)
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    unlisted: str | None = "it has not been asked yet"

    @property
    def id(self) -> str:
        return self.settings.id

    @property
    def problem(self) -> str | None:
        """Why nothing is sent to it; None if it is well."""
        wait_s = self.breaker.wait_s
        if wait_s and self.unlisted is None:
            return f"it has failed {self.breaker.failures} times in a row, and is left alone for {wait_s:.0f} s"
        return self.unlisted

    def require(self) -> None:
        """Refuse to ask a peer that is down.

        Raises:
            PeerUnavailable: it is.
        """
        problem = self.problem
        if problem is not None:
            details = {"peer": self.id}
            raise PeerUnavailable(
                f"The peer {self.id} is not asked: {problem}.", details=details, retry_after_s=self.breaker.wait_s or 5.0
            )
