"""The codec of grants and of tokens to ask with, which one gateway sends to another. Pure.

A grant is a JWT that lets the issuer run one agent at the peer, once. A token to ask with lets the issuer read or cancel the
runs that it has started there.

    header   typ a2a-grant+jwt | a2a-ask+jwt, alg EdDSA | HS256, kid
    claims   iss, aud  issuer and audience, the ids of two gateways     iat, exp  issued at, expires at
             jti       a unique id; a grant opens one run
    and in a grant
             sub, txn  run and tree of the issuer    act    the chain of actors, the nearest outermost (RFC 8693)
             agent     the model that may be run     depth, depth_left, runs, breadth, turns, timeout_s, budget_usd, agents

The type of a token is verified (RFC 8725, 3.11), so neither of the two, nor a run token, is accepted in place of another.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import AfterValidator, BaseModel, Field, StringConstraints, ValidationError, create_model

from a2a_gateway.errors import AuthenticationError
from a2a_gateway.runs.model import Grant
from delegate_tool.protocol.limits import LIMITS, MAX_DEPTH, LimitPolicy
from delegate_tool.protocol.money import parse_usd
from delegate_tool.protocol.values import AGENTS, COUNT, COUNT_FROM_ZERO, MAX_COUNT, MONEY, SECONDS, Codec

GRANT_TYPE: Final = "a2a-grant+jwt"
ASK_TYPE: Final = "a2a-ask+jwt"
CLOCKS_DIFFER_S: Final = 60.0
"""How far the clocks of two gateways may be apart. A token is valid for that much longer than it is needed."""
_ASK_WITHIN_S: Final = 60.0
_LONGEST_S: Final = 7 * 86_400.0
"""The longest validity of a grant. The gateway has to remember a used grant until it expires."""
_ACTORS: Final = 32


type Algorithm = Literal["EdDSA", "HS256"]


@dataclass(frozen=True, slots=True)
class Signer:
    """The key that signs tokens: a private key, or a secret that both gateways know."""

    algorithm: Algorithm
    key: Ed25519PrivateKey | str = field(repr=False)
    kid: str | None = None


@dataclass(frozen=True, slots=True)
class Verifier:
    """The key that verifies tokens."""

    algorithm: Algorithm
    key: Ed25519PublicKey | str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ask:
    """Permission to read and cancel the runs that the issuer has started here."""

    issuer: str


type _Text = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00]+$")]  # PostgreSQL could not store NUL


class _TokenClaims(BaseModel):
    """Claims that every token has. They are validated as strictly as any client's input, also money and limits."""

    iss: _Text
    jti: _Text
    iat: float = Field(allow_inf_nan=False)
    exp: float = Field(allow_inf_nan=False)


class _RunClaims(_TokenClaims):
    """Claims of a grant that are not limits, and the depth that is left."""

    sub: _Text
    txn: _Text
    agent: _Text
    depth: int = Field(ge=0, le=10**6)
    depth_left: int = Field(ge=0, le=10**6)
    act: dict[str, Any] | None = None


_ABSOLUTE: Final = tuple(limit for limit in LIMITS if limit is not MAX_DEPTH)
"""All limits but the depth, which a grant counts from its own run."""
_REQUIRED: Final = frozenset({"runs", "breadth", "turns", "timeout_s"})
"""Claims of every grant. A limit that is added later cannot be required, because older gateways do not send it."""
_CLAIM_TYPES: Final[Mapping[Codec[Any], Any]] = {
    COUNT_FROM_ZERO: Annotated[int, Field(ge=0, le=MAX_COUNT)],
    COUNT: Annotated[int, Field(ge=1, le=MAX_COUNT)],
    SECONDS: Annotated[float, Field(gt=0, le=MAX_COUNT, allow_inf_nan=False)],
    MONEY: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,6})?$"), AfterValidator(parse_usd)],
    AGENTS: frozenset[_Text],
}
_LIMIT_CLAIMS: Final[dict[str, Any]] = {
    limit.claim: (_CLAIM_TYPES[limit.codec], ...) if limit.claim in _REQUIRED else (_CLAIM_TYPES[limit.codec] | None, None)
    for limit in _ABSOLUTE
}
_GrantClaims: Final = create_model("_GrantClaims", __base__=_RunClaims, **_LIMIT_CLAIMS)


def encode_grant(grant: Grant, *, audience: str, signer: Signer, now: float) -> str:
    """Render a grant; `now`, as all instants here, is seconds since the epoch."""
    policy = grant.policy
    return _encode(
        GRANT_TYPE,
        signer,
        {
            "iss": grant.issuer,
            "aud": audience,
            "sub": grant.run_id,
            "txn": grant.tree_id,
            "jti": grant.jti,
            "iat": now,
            "exp": grant.expires_at,
            "agent": grant.agent,
            "depth": grant.depth,
            "depth_left": (policy.max_depth or 0) - grant.depth,
            **{limit.claim: limit.to_json(getattr(policy, limit.name)) for limit in _ABSOLUTE},
            "act": _nest(grant.actors),
        },
    )


def encode_ask(issuer: str, *, audience: str, signer: Signer, now: float) -> str:
    """Render a token to ask with. It may be used more than once within a minute."""
    expires_at = now + _ASK_WITHIN_S + CLOCKS_DIFFER_S
    claims = {"iss": issuer, "aud": audience, "jti": secrets.token_urlsafe(16), "iat": now, "exp": expires_at}
    return _encode(ASK_TYPE, signer, claims)


@dataclass(frozen=True, slots=True)
class Label:
    """The unverified parts of a token that are needed to find the key for it."""

    type: str | None
    issuer: str
    kid: str | None


def read_label(token: str) -> Label:
    """Read the label of a token.

    Raises:
        AuthenticationError: the token is not a JWT.
    """
    try:
        header = jwt.get_unverified_header(token)
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, UnicodeError):
        raise AuthenticationError("The token in the Authorization header cannot be read.") from None
    kid, kind = header.get("kid"), header.get("typ")
    return Label(kind if isinstance(kind, str) else None, str(claims.get("iss", "")), kid if isinstance(kid, str) else None)


def decode_token(token: str, *, audience: str, verifier: Verifier, now: float) -> Grant | Ask:
    """Verify and parse a token. The ledger checks whether it was used before.

    Raises:
        AuthenticationError: the token is forged, for another audience, expired, from the future, or malformed.
    """
    try:
        header = jwt.get_unverified_header(token)
        # The instants are checked below, against the gateway's own clock.
        claims = jwt.decode(
            token,
            verifier.key,
            algorithms=[verifier.algorithm],
            audience=audience,
            options={
                "require": ["iss", "aud", "jti", "iat", "exp"],
                "verify_exp": False,
                "verify_iat": False,
                "strict_aud": True,
            },
        )
        match header.get("typ"):
            case "a2a-grant+jwt":
                granted = _GrantClaims.model_validate(claims)
                _check_time(granted, now)
                return _grant(granted)
            case "a2a-ask+jwt":
                asked = _TokenClaims.model_validate(claims)
                _check_time(asked, now)
                return Ask(asked.iss)
            case _:
                raise AuthenticationError("The token in the Authorization header is not a grant.")
    except jwt.PyJWTError as error:
        raise AuthenticationError(f"The grant is not valid: {error}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise AuthenticationError(f"The grant is not valid: {name}: {first['msg']}.") from None


def _check_time(claims: _TokenClaims, now: float) -> None:
    if claims.exp <= now:
        raise AuthenticationError("The grant has expired. The gateway that sends it must make a new one for each call.")
    if claims.iat - CLOCKS_DIFFER_S > now:
        raise AuthenticationError("The grant was issued in the future: the two gateways' clocks differ by more than a minute.")
    if claims.exp - claims.iat > _LONGEST_S:
        raise AuthenticationError(f"The grant is not valid: its lifetime is longer than {_LONGEST_S:g} s.")


def _grant(granted: _RunClaims) -> Grant:
    return Grant(
        issuer=granted.iss,
        run_id=granted.sub,
        tree_id=granted.txn,
        jti=granted.jti,
        expires_at=granted.exp,
        agent=granted.agent,
        depth=granted.depth,
        policy=LimitPolicy(
            max_depth=granted.depth + granted.depth_left,
            **{limit.name: getattr(granted, limit.claim) for limit in _ABSOLUTE},
        ),
        actors=_unnest(granted.act),
    )


def _encode(kind: str, signer: Signer, claims: Mapping[str, object]) -> str:
    headers = {"typ": kind, **({"kid": signer.kid} if signer.kid else {})}
    return jwt.encode(dict(claims), signer.key, algorithm=signer.algorithm, headers=headers)


def _nest(actors: Sequence[str]) -> dict[str, object] | None:
    act: dict[str, object] | None = None
    for actor in actors[-_ACTORS:]:
        act = {"sub": actor, **({"act": act} if act else {})}
    return act


def _unnest(act: object) -> tuple[str, ...]:
    actors: list[str] = []
    while isinstance(act, Mapping) and len(actors) < _ACTORS:
        actors.append(str(act.get("sub", ""))[:200])
        act = act.get("act")
    return tuple(reversed(actors))
