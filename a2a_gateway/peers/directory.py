"""Which agents the peers have: asked of each, remembered, asked again now and then. A peer that is down has none."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import httpx
import openai
import structlog
from openai import AsyncOpenAI

from a2a_gateway.errors import ModelNotFound, PeerUnavailable
from a2a_gateway.runs.model import MODEL_PREFIX, LimitPolicy, Profile, ProfileProblem
from a2a_gateway.settings import PeerSettings

log = structlog.get_logger(__name__)

_ASK_WITHIN_S: Final = 5.0
_MOST_MODELS: Final = 500
_TEXT_CHARS: Final = 500


@dataclass(slots=True)
class Peer:
    """One peer, as far as it is known now.

    Attributes:
        profiles: its agents, by the model id under which they are served here.
        problem: why there are none; None if it answers.
    """

    settings: PeerSettings
    client: AsyncOpenAI
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    problem: str | None = "It has not been asked yet."


class PeerDirectory:
    """The peers and their agents. Use as `async with`; entering asks each once, and goes on asking."""

    def __init__(self, peers: Sequence[PeerSettings], environ: Mapping[str, str], *, refresh_s: float) -> None:
        self._refresh_s = refresh_s
        # What the client repeats by itself, the peer recognises by the idempotency key.
        self._peers = {
            peer.id: Peer(peer, AsyncOpenAI(base_url=peer.base_url, api_key=peer.read_api_key(environ), max_retries=2))
            for peer in peers
        }
        self._refreshing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.refresh()
        if self._peers:
            self._refreshing = asyncio.create_task(self._refresh_often(), name="refresh peers")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            with suppress(asyncio.CancelledError):
                await self._refreshing
        for peer in self._peers.values():
            await peer.client.close()

    def get(self, model: str) -> Profile:
        """Find an agent by the model id under which it is served here: `{peer}/{model}`.

        Raises:
            ModelNotFound: there is no such peer, or it has no such agent.
            PeerUnavailable: the peer does not answer.
        """
        peer = self._peers.get(model.partition("/")[0])
        if peer is None:
            raise ModelNotFound(f"There is no model {model[:200]!r}, and no peer of that name.", param="model")
        profile = peer.profiles.get(model)
        if profile is None and peer.problem is not None:
            raise PeerUnavailable(f"The peer {peer.settings.id} cannot be asked: {peer.problem}", retry_after_s=5)
        if profile is None:
            raise ModelNotFound(f"The peer {peer.settings.id} has no model {model.partition('/')[2][:200]!r}.", param="model")
        return profile

    def list(self) -> Sequence[Profile]:
        """The agents of all peers that answer."""
        return [profile for peer in self._peers.values() for _, profile in sorted(peer.profiles.items())]

    def problems(self) -> Sequence[ProfileProblem]:
        """The peers that do not answer, and why."""
        return [ProfileProblem(f"peer {peer.settings.id}", peer.problem) for peer in self._peers.values() if peer.problem]

    def states(self) -> Mapping[str, str]:
        """How each peer is: `ok`, or why it is not."""
        return {peer_id: peer.problem or "ok" for peer_id, peer in self._peers.items()}

    def find(self, model: str) -> Peer | None:
        """Find the peer that has an agent; None if it is a peer no longer."""
        return self._peers.get(model.partition("/")[0])

    def peer(self, peer_id: str) -> Peer:
        """Find a peer by its id; raises `KeyError`."""
        return self._peers[peer_id]

    async def refresh(self) -> None:
        """Ask every peer which agents it has."""
        await asyncio.gather(*(self._ask(peer) for peer in self._peers.values()))

    async def _refresh_often(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_s)
            await self.refresh()

    async def _ask(self, peer: Peer) -> None:
        try:
            async with asyncio.timeout(_ASK_WITHIN_S):
                listed = await peer.client.with_options(max_retries=0).models.list()
        except (openai.APIError, httpx.HTTPError, TimeoutError, ValueError) as error:
            problem = f"{type(error).__name__}: it does not list its models."
            if problem != peer.problem:
                log.warning("peer_down", peer=peer.settings.id, error=type(error).__name__)
            peer.profiles, peer.problem = {}, problem
            return
        profiles = [_profile(peer.settings, model.model_dump(warnings=False)) for model in (listed.data or [])[:_MOST_MODELS]]
        peer.profiles, peer.problem = {profile.model: profile for profile in profiles if profile is not None}, None


def _profile(peer: PeerSettings, model: Mapping[str, object]) -> Profile | None:
    """Describe an agent of a peer; None for one that is not listed here. What the peer says of itself is only shown."""
    name, description = model.get("id"), model.get("description")
    if not isinstance(name, str) or not 0 < len(name) <= _TEXT_CHARS or (peer.agents is not None and name not in peer.agents):
        return None
    if peer.agents is None and not peer.opaque and not name.startswith(MODEL_PREFIX):
        return None  # what the peer itself forwards is listed here only if that is asked for
    context = model.get("context_length")
    return Profile(
        name=name,
        description=description[:_TEXT_CHARS] if isinstance(description, str) else f"{name} at {peer.id}.",
        source=f"peer {peer.id}",
        llm_model=name,
        context_tokens=context if isinstance(context, int) else None,
        vision=True,  # the peer refuses images where it sees none
        policy=LimitPolicy(
            max_depth=peer.max_depth, max_runs=peer.max_runs, timeout_s=peer.timeout_s, budget_micro_usd=peer.budget_micro_usd
        ),
        peer=peer.id,
    )
