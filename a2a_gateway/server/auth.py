"""Authenticate requests: from the credential in the headers to a `Caller`.

credential                what it allows
key                       to start trees, and to read and cancel them
run token                 to start children of its run, and to read and cancel what is below it
a peer's grant            to start one run
a peer's lesser token     to list models, and to read and cancel the runs that the peer has had here (`asks_as`)
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from a2a_gateway.errors import AuthenticationError, RootKeyFromAgent, RunNotFound, RunTokenRevoked
from a2a_gateway.runs.event_log import get_log
from a2a_gateway.runs.model import LIVE_STATES, RunId, RunRecord
from a2a_gateway.runs.ports import Keys, Ledger
from a2a_gateway.runs.proposal import Caller
from a2a_gateway.server.origin import ConnectionEnds, Origins
from a2a_gateway.server.tokens import JwtRunTokens

if TYPE_CHECKING:
    from a2a_gateway.peers import GrantVerifier

log = get_log(__name__)

_FOUND_RUNS: Final = 100
_RUN_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Finds the caller of a request, and the runs that the caller may see."""

    keys: Keys
    ledger: Ledger
    tokens: JwtRunTokens
    grant_verifier: "GrantVerifier"
    origins: Origins

    async def authenticate(self, headers: Mapping[str, str], connection: ConnectionEnds | None) -> Caller:
        """Find the caller of a request.

        An agent that presents a key calls as its own run, as if with its run token, or is refused (`A2A_AGENT_KEY_USE`).

        Raises:
            AuthenticationError: no credential, or an unknown one.
            RunTokenRevoked: the token of a run that has ended.
            RootKeyFromAgent: an agent sent a key.
        """
        secret = _credential(headers)
        if self._is_run_token(secret):
            return await self._caller_of(self.tokens.read(secret))
        caller = await self._owner_of(secret)
        try:
            run_id = await self.origins.find_parent(connection)
        except RootKeyFromAgent as error:
            raise error.with_details(key_id=caller.key.id) from None
        if run_id is None:
            return caller
        log.warning("key_from_agent_is_its_run", key_id=caller.key.id, run_id=run_id)
        return await self._caller_of(run_id)

    def _is_run_token(self, secret: str) -> bool:
        return _is_jwt(secret) and self.tokens.is_run_token(secret)

    async def _owner_of(self, secret: str) -> Caller:
        """Return the caller that owns a long-lived secret: a key or a peer."""
        if _is_jwt(secret):
            return await self.grant_verifier.caller(secret, self.keys)
        return Caller(await self.keys.authenticate(secret))

    async def _caller_of(self, run_id: RunId) -> Caller:
        run = await self.ledger.get_run(run_id)
        if run is None or run.state not in LIVE_STATES:
            raise RunTokenRevoked(f"Run {run_id} has ended, and its token with it.")
        key = await self.keys.get_key(run.key_id)
        if key is None or key.revoked_at is not None:
            raise AuthenticationError("The key that started this tree was revoked.")
        return Caller(key, run)

    async def visible_run(self, caller: Caller, run_id: str) -> RunRecord:
        """Return a run that the caller may see: a key sees its own trees, a run token its run and what is below it.

        Raises:
            RunNotFound: it does not exist, or the caller may not see it; the error is the same for both.
        """
        # Only ids reach the database: it may be unable to hold other text (NUL, in PostgreSQL).
        run = await self.ledger.get_run(RunId(run_id)) if _RUN_ID.fullmatch(run_id) else None
        if run is not None and run.key_id == caller.key.id and await self._is_within(run, caller.run):
            return run
        raise RunNotFound(f"There is no run {run_id[:64]!r} of yours.")

    async def find_visible_runs(self, caller: Caller, id_prefix: str) -> Sequence[RunRecord]:
        """Return the runs that the caller may see and whose ids begin with a prefix, newest first."""
        found = await self.ledger.find_runs(caller.key.id, id_prefix, _FOUND_RUNS)
        return [run for run in found if await self._is_within(run, caller.run)]

    async def _is_within(self, run: RunRecord, top: RunRecord | None) -> bool:
        if top is None:
            return True
        while run.id != top.id:
            parent = await self.ledger.get_run(run.parent_id) if run.parent_id is not None else None
            if parent is None:
                return False
            run = parent
        return True


def _is_jwt(secret: str) -> bool:
    return secret.count(".") == 2


def _credential(headers: Mapping[str, str]) -> str:
    """Return the secret of `Authorization: Bearer …` or, as OpenHands' agent-server accepts, `X-Session-API-Key`."""
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and secret.strip():
        return secret.strip()
    session_key = headers.get("x-session-api-key", "").strip()
    if session_key:
        return session_key
    raise AuthenticationError(
        "No API key was sent. Send `Authorization: Bearer <key>`; `a2a-gateway keys create NAME` makes one."
    )
