"""One peer: its client and credential, its state, and its agents."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Literal

import anyio
import httpx
import openai
from openai import AsyncOpenAI
from pydantic_core import from_json

from a2a_gateway.errors import PeerUnavailable
from a2a_gateway.peer_settings import PeerSettings
from a2a_gateway.peers.breaker import Breaker
from a2a_gateway.peers.connection import Unreadable
from a2a_gateway.peers.credential import Credential
from a2a_gateway.peers.pricing import TokenPrice
from a2a_gateway.runs.model import Profile
from delegate_tool.http.unreached import explain_certificate
from delegate_tool.masking import Secrets

_NO_SUCH_ROUTE: Final = frozenset({400, 404, 405, 410, 501})


class NoAnswer(Exception):
    """A peer did not answer a request of `Peer.ask`. The message is the reason, as the end of a sentence.

    Attributes:
        is_not_offered: whether the peer was reached, but does not have this endpoint, which every gateway has.
    """

    def __init__(self, why: str, *, is_not_offered: bool = False) -> None:
        super().__init__(why)
        self.is_not_offered = is_not_offered


@dataclass(slots=True)
class Peer:
    """A peer.

    Attributes:
        credential: authenticates this gateway to the peer.
        profiles: its agents, by the model id under which they are served here.
        listed_prices: the prices in its list of models, by the model ids of the peer.
        unlisted: why it does not list its agents; None if it does.
        calls: the number of requests to it that are under way.
    """

    settings: PeerSettings
    client: AsyncOpenAI = field(repr=False)
    credential: Credential = field(repr=False)
    breaker: Breaker = field(default_factory=Breaker)
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    listed_prices: Mapping[str, TokenPrice] = field(default_factory=dict)
    unlisted: str | None = "it has not been asked yet"
    calls: int = 0
    _is_gone: bool = False

    @property
    def id(self) -> str:
        return self.settings.id

    @property
    def problem(self) -> str | None:
        """Why the peer is down and nothing is sent to it; None if it is up."""
        wait_s = self.breaker.wait_s
        if wait_s and self.unlisted is None:
            return f"it has failed {self.breaker.failures} times in a row; the next request is sent in {wait_s:.0f} s"
        return self.unlisted

    def secrets(self, *presented: str) -> Secrets:
        """Return the secrets that must be masked in all that the peer sends.

        Args:
            presented: values of `Authorization` that were sent to it.
        """
        return Secrets.of((*self.credential.secrets, *(value.removeprefix("Bearer ") for value in presented)))

    def require(self) -> None:
        """Check that the peer is up.

        Raises:
            PeerUnavailable: the peer is down.
        """
        problem = self.problem
        if problem is not None:
            details = {"peer": self.id}
            raise PeerUnavailable(
                f"The peer {self.id} is down: {problem}.", details=details, retry_after_s=self.breaker.wait_s or 5.0
            )

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        """Keep the client open for the length of the context, also if the peer is removed meanwhile."""
        self.calls += 1
        try:
            yield
        finally:
            self.calls -= 1
            if self._is_gone:
                with anyio.CancelScope(shield=True):
                    await self.close_when_idle()

    async def close_when_idle(self) -> None:
        """Close the client, now or when the last call has ended."""
        self._is_gone = True
        if not self.calls:
            await self.client.close()

    async def ask(
        self,
        method: Literal["GET", "POST"],
        path: str,
        *,
        within_s: float,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> object:
        """Send a small request to the peer's API. Return the JSON value of the response, with the credential masked.

        Args:
            path: below the peer's base URL.

        Raises:
            NoAnswer: the peer does not answer in time, or answers with an error, or not with JSON.
        """
        named = {**(headers or {}), "Authorization": (presented := self.credential.to_ask())}
        secrets = self.secrets(presented)
        request = self.client.get if method == "GET" else self.client.post
        try:
            async with self.calling(), asyncio.timeout(within_s):
                response = await request(
                    path, cast_to=httpx.Response, options={"params": params or {}, "headers": named, "timeout": within_s}
                )
            return secrets.mask_json(from_json(response.content, allow_inf_nan=False))
        except openai.APIStatusError as error:
            status = error.status_code
            raise NoAnswer(f"it answers HTTP {status}", is_not_offered=status in _NO_SUCH_ROUTE) from None
        except (TimeoutError, openai.APITimeoutError):
            raise NoAnswer(f"it did not answer within {within_s:g} s") from None
        except openai.APIConnectionError as error:
            # The reason may quote a malformed response.
            raise NoAnswer(secrets.mask(_why_unreached(error.__cause__))) from None
        except ValueError:
            raise NoAnswer("its response cannot be read", is_not_offered=True) from None


def _why_unreached(cause: BaseException | None) -> str:
    match cause:
        case Unreadable():
            return str(cause)
        case httpx.LocalProtocolError():
            return "the request to it is not valid HTTP"  # the error quotes the malformed header, which may be the credential
        case _:
            return explain_certificate(cause) or f"it cannot be reached ({cause})"
