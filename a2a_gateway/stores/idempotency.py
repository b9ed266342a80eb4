"""Execute a request once: idempotency keys with their runs, and used grants. Functions of one transaction."""

from dataclasses import asdict
from typing import Final

from sqlalchemy import Connection, bindparam, delete, exists, insert, select
from sqlalchemy.exc import IntegrityError

from a2a_gateway.errors import AuthenticationError, IdempotencyKeyReused
from a2a_gateway.runs.model import LIVE_STATES, Grant, IdempotencyKey, RunId, RunRecord
from a2a_gateway.runs.retry_rule import releases_idempotency_key
from a2a_gateway.stores.rows import run_of
from a2a_gateway.stores.schema import claims, grants, runs
from delegate_tool.protocol.fields import Header

_CLAIM: Final = select(claims).where(claims.c.scope == bindparam("of"), claims.c.key == bindparam("named"))
_FREE_CLAIM: Final = delete(claims).where(
    claims.c.scope == bindparam("of"),
    claims.c.key == bindparam("named"),
    # With PostgreSQL another transaction may have freed the key since it was read, and recorded it for a run of its own.
    claims.c.run_id == bindparam("claimed_by"),
)
_is_live: Final = exists().where(runs.c.id == claims.c.run_id, runs.c.state.in_(sorted(LIVE_STATES)))
_FORGET_CLAIMS: Final = delete(claims).where(claims.c.expires_at <= bindparam("now"), ~_is_live)
_FORGET_GRANTS: Final = delete(grants).where(grants.c.expires_at <= bindparam("now"))
_RUN: Final = select(runs).where(runs.c.id == bindparam("run_id"))


class ClaimedMeanwhile(Exception):
    """Another transaction recorded the same key first (PostgreSQL). Its run is visible now, so the caller tries again."""


def find_claimed(connection: Connection, claim: IdempotencyKey, now: float, grant: Grant | None = None) -> RunRecord | None:
    """Return the run of an idempotency key, and record the grant of the request as used.

    A key is freed if it has expired and its run has ended, or if its run may be repeated.
    """
    found = connection.execute(_CLAIM, {"of": claim.scope, "named": claim.key}).one_or_none()
    if found is None:
        return None
    run = run_of(connection.execute(_RUN, {"run_id": found.run_id}).one())
    if found.expires_at <= now and run.state not in LIVE_STATES:
        _free(connection, claim, run.id)
        return None
    if found.fingerprint != claim.fingerprint:
        raise IdempotencyKeyReused(
            "This idempotency key was used for another request. Send the same request with it, or use a new key.",
            param=Header.IDEMPOTENCY_KEY,
            details={"run_id": found.run_id},
        )
    if releases_idempotency_key(run):
        # The earlier run did nothing, so executing the request now executes it once.
        _free(connection, claim, run.id)
        return None
    if grant is not None:
        record_grant(connection, grant)
    return run


def _free(connection: Connection, claim: IdempotencyKey, run_id: RunId) -> None:
    connection.execute(_FREE_CLAIM, {"of": claim.scope, "named": claim.key, "claimed_by": run_id})


def run_of_claim(connection: Connection, scope: str, key: str) -> RunRecord | None:
    """Return the run of an idempotency key, whatever the request was."""
    found = connection.execute(_CLAIM, {"of": scope, "named": key}).one_or_none()
    return None if found is None else run_of(connection.execute(_RUN, {"run_id": found.run_id}).one())


def record_claim(connection: Connection, claim: IdempotencyKey, run_id: RunId) -> None:
    """Record an idempotency key for a run.

    Raises:
        ClaimedMeanwhile: another transaction has recorded it.
    """
    try:
        connection.execute(insert(claims), {**asdict(claim), "run_id": run_id})
    except IntegrityError:
        raise ClaimedMeanwhile from None


def delete_expired(connection: Connection, now: float) -> None:
    """Delete the expired idempotency keys whose runs have ended, and the grants that have expired."""
    connection.execute(_FORGET_CLAIMS, {"now": now})
    connection.execute(_FORGET_GRANTS, {"now": now})


def record_grant(connection: Connection, grant: Grant) -> None:
    """Record a grant as used.

    Raises:
        AuthenticationError: it was used before.
    """
    try:
        connection.execute(insert(grants), {"issuer": grant.issuer, "jti": grant.jti, "expires_at": grant.expires_at})
    except IntegrityError:
        raise AuthenticationError("This grant was used before; each opens one run.") from None
