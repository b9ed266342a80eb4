"""The codec of grants: what is signed is read again, and nothing else is."""

import base64
import json
from dataclasses import replace
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2a_gateway.errors import AuthenticationError
from a2a_gateway.peers.grant import Ask, Signer, Verifier, decode_token, encode_ask, encode_grant, read_label
from a2a_gateway.peers.signing_key import SigningKey, load_public_key
from a2a_gateway.runs.model import Grant
from delegate_tool.protocol.limits import LimitPolicy
from tests.error_texts.texts import pattern_of

NOW = 1_700_000_000.0
KEY = SigningKey.generate()
SIGNER = Signer("EdDSA", KEY.private, KEY.kid)
VERIFIER = Verifier("EdDSA", KEY.private.public_key())
GRANT = Grant(
    issuer="desk",
    run_id="run-1",
    tree_id="tree-1",
    jti="only-once",
    expires_at=NOW + 60,
    agent="openhands_coder",
    depth=1,
    policy=LimitPolicy(3, 5, 20, 30.0, 100, 500_000, frozenset({"openhands_coder"})),
    actors=("desk/openhands_lead", "desk/box/openhands_coder"),
)
EXPIRED = pattern_of("invalid_api_key: an expired grant")
NO_GRANT = pattern_of("invalid_api_key: a token that is no grant")

_names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)
_limits = st.builds(
    LimitPolicy,
    max_depth=st.integers(5, 50),
    max_breadth=st.integers(1, 100),
    max_runs=st.integers(0, 10_000),
    timeout_s=st.floats(0.001, 1e6),
    max_turns=st.integers(1, 1000),
    budget_micro_usd=st.none() | st.integers(0, 10**12),
    allowed_agents=st.none() | st.frozensets(_names, max_size=5),
)
_grants = st.builds(
    Grant,
    issuer=_names,
    run_id=_names,
    tree_id=_names,
    jti=_names,
    expires_at=st.floats(NOW + 1, NOW + 86_400),
    agent=_names,
    depth=st.integers(0, 5),
    policy=_limits,
    actors=st.lists(_names, max_size=10).map(tuple),
)


def encode(grant: Grant = GRANT, signer: Signer = SIGNER, now: float = NOW) -> str:
    return encode_grant(grant, audience="box", signer=signer, now=now)


def decode(token: str, verifier: Verifier = VERIFIER, now: float = NOW, audience: str = "box") -> Grant | Ask:
    return decode_token(token, audience=audience, verifier=verifier, now=now)


def forge(header: dict[str, object] | None = None, /, **claims: object) -> str:
    """Encode the grant with other claims, signed by the right key; a claim given as `...` is left out."""
    all_claims = jwt.decode(encode(), options={"verify_signature": False}) | claims
    headers = {"typ": "a2a-grant+jwt", **(header or {})}
    return jwt.encode({k: v for k, v in all_claims.items() if v is not ...}, KEY.private, algorithm="EdDSA", headers=headers)


@given(_grants)
def test_a_grant_is_read_as_it_was_written(grant: Grant) -> None:
    assert decode(encode(grant)) == grant


def test_a_secret_that_both_know_does_as_well_as_a_key() -> None:
    secret = "s" * 32
    assert decode(encode(signer=Signer("HS256", secret)), Verifier("HS256", secret)) == GRANT


def test_a_token_to_ask_with_is_good_for_asking_alone() -> None:
    token = encode_ask("desk", audience="box", signer=SIGNER, now=NOW)
    assert decode(token) == Ask("desk")
    assert read_label(token).type == "a2a-ask+jwt"
    with pytest.raises(AuthenticationError, match=EXPIRED):
        decode(token, now=NOW + 121)


def _by_public_key_as_secret() -> str:
    """Sign with HS256 and the public key as the secret, the classic confusion of algorithms."""
    header = {"typ": "a2a-grant+jwt", "alg": "HS256"}
    claims = jwt.decode(encode(), options={"verify_signature": False})
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        b".".join(parts), KEY.private.public_key().public_bytes_raw()
    )
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "segments"),
        ("a.b.c", "header"),
        (encode()[:-4] + "AAAA", "Signature"),
        (encode(signer=Signer("EdDSA", SigningKey.generate().private)), "Signature"),
        (jwt.encode({"iss": "desk"}, "", algorithm="none", headers={"typ": "a2a-grant+jwt"}), "alg "),
        (_by_public_key_as_secret(), "alg "),
        (forge(aud="elsewhere"), "Audience"),
        (forge(aud=["box", "elsewhere"]), "format"),
        (forge({"typ": "JWT"}), NO_GRANT),
        (forge({"typ": "a2a-run+jwt"}), NO_GRANT),
        (forge(exp=NOW - 1), EXPIRED),
        (forge(iat=NOW + 61), pattern_of("invalid_api_key: a grant from the future")),
        (forge(exp=NOW + 8 * 86_400), pattern_of("invalid_api_key: a grant that is good for too long")),
        (forge(jti=...), "jti"),
        (forge(exp=...), "exp"),
        (forge(sub=...), "sub"),
        (forge(agent=""), "agent"),
        (forge(sub="no\0id"), "sub"),
        (forge(depth=-1), "depth"),
        (forge(depth="1.5"), "depth"),
        (forge(budget_usd="1e9"), "budget_usd"),
        (forge(budget_usd=-1), "budget_usd"),
        (forge(budget_usd="0.0000001"), "budget_usd"),
        (forge(timeout_s=0), "timeout_s"),
        (forge(turns=10**10), "turns"),
        (forge(agents=["x" * 201]), "agents"),
        (forge(exp=10**400), "exp: "),
    ],
)
def test_what_is_no_grant_for_this_gateway_is_refused(token: str, reason: str) -> None:
    with pytest.raises(AuthenticationError, match=reason):
        decode(token)


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "..", "\ud800.a.b"])
def test_what_is_no_token_has_no_label(token: str) -> None:
    with pytest.raises(AuthenticationError, match=pattern_of("invalid_api_key: a token that cannot be read")):
        read_label(token)


def test_a_chain_of_agents_of_any_length_is_read_up_to_a_bound() -> None:
    endless: Any = {"sub": "last"}
    for _ in range(200):
        endless = {"sub": "again", "act": endless}
    read = decode(forge(act=endless))
    assert isinstance(read, Grant)
    assert read.actors == ("again",) * 32
    assert decode(forge(act={"act": {"sub": 5}})) == replace(GRANT, actors=("5", ""))


def test_no_key_stands_in_a_repr() -> None:
    assert "private" not in repr(SIGNER)
    assert "hunter2" not in repr(Verifier("HS256", "hunter2"))
    assert load_public_key(KEY.public_key).public_bytes_raw() == KEY.private.public_key().public_bytes_raw()
