"""Run tokens: JWTs that name one run. What they allow is looked up in the ledger on every call."""

import secrets
from dataclasses import dataclass, field

import jwt

from a2a_gateway.errors import AuthenticationError
from a2a_gateway.runs.model import RunId, RunRecord

_ALGORITHM = "HS256"
_TYPE = "a2a-run+jwt"
"""Distinguishes run tokens from the tokens of peers (RFC 8725, section 3.11)."""


@dataclass(frozen=True, slots=True)
class JwtRunTokens:
    """Mints and reads run tokens.

    The signing secret is generated in each process and stored nowhere: no run outlives its process, so no token needs to.
    """

    gateway_id: str
    _secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def mint(self, record: RunRecord) -> str:
        """Make the token that names a run; it is invalid once the run has ended, and starts nothing after the run's deadline.

        The ledger knows both. An instant in the token itself would be compared with a wall clock, which may jump.
        """
        claims = {"iss": self.gateway_id, "sub": record.id, "txn": record.tree_id}
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM, headers={"typ": _TYPE})

    def is_run_token(self, token: str) -> bool:
        """Return whether a JWT has the type of a run token. True for one that cannot be parsed, so that `read` refuses it."""
        try:
            return jwt.get_unverified_header(token).get("typ") == _TYPE
        except jwt.PyJWTError:
            return True

    def read(self, token: str) -> RunId:
        """Return the run that a token names.

        Raises:
            AuthenticationError: another process or gateway made it, or it is forged.
        """
        try:
            options = {"require": ["sub", "iss"]}
            claims = jwt.decode(token, self._secret, algorithms=[_ALGORITHM], issuer=self.gateway_id, options=options)  # type: ignore[arg-type]
        except jwt.PyJWTError as error:
            raise AuthenticationError(f"The run token is not valid: {error}.") from None
        return RunId(str(claims["sub"]))
