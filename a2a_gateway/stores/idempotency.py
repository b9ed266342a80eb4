"""Execute a request once: idempotency keys with their runs, and used grants. Functions of one transaction."""

from dataclasses import asdict
from typing import Final

from sqlalchemy import Connection, bindparam, delete, exists, insert, select
from sqlalchemy.exc import IntegrityError

from a2a_gateway.errors import AuthenticationError, IdempotencyKeyReused
from a2a_gateway.runs.model import LIVE_STATES, Grant, IdempotencyKey, RunId, RunRecord
from a2a_gateway.runs.retry_rule import releases_idempotency_key
from a2a_gateway.stores.rows import run_of
from a2a_gateway.stores.schema import grants, idempotency_keys, runs
from delegate_tool.protocol.fields import Header

_KEY: Final = select(idempotency_keys).where(
    idempotency_keys.c.scope == bindparam("of"), idempotency_keys.c.key == bindparam("named")
)
_FREE_KEY: Final = delete(idempotency_keys).where(
    idempotency_keys.c.scope == bindparam("of"),
    idempotency_keys.c.key == bindparam("named"),
    # With PostgreSQL another transaction may have freed the key since it was read, and recorded it for a run of its own.
    idempotency_keys.c.run_id == bindparam("of_run"),
)
_is_live: Final = exists().where(runs.c.id == idempotency_keys.c.run_id, runs.c.state.in_(sorted(LIVE_STATES)))
_DELETE_EXPIRED_KEYS: Final = delete(idempotency_keys).where(idempotency_keys.c.expires_at <= bindparam("now"), ~_is_live)
_DELETE_EXPIRED_GRANTS: Final = delete(grants).where(grants.c.expires_at <= bindparam("now"))
_RUN: Final = select(runs).where(runs.c.id == bindparam("run_id"))


class KeyTaken(Exception):
    """Another transaction recorded the same key first (PostgreSQL). Its run is visible now, so the caller tries again."""


def resolve_key(connection: Connection, key: IdempotencyKey, now: float, grant: Grant | None = None) -> RunRecord | None:
    """Return the run that a request with an idempotency key repeats, and record the request's grant as used.

    Return None if there is no such run. That is so, and the key is freed, if it has expired and its run has ended, or if its run
    may be repeated.

    Raises:
        IdempotencyKeyReused: the key was used for another request.
        AuthenticationError: the grant was used before.
    """
    found = connection.execute(_KEY, {"of": key.scope, "named": key.key}).one_or_none()
    if found is None:
        return None
    run = run_of(connection.execute(_RUN, {"run_id": found.run_id}).one())
    if found.expires_at <= now and run.state not in LIVE_STATES:
        _free(connection, key, run.id)
        return None
    if found.fingerprint != key.fingerprint:
        raise IdempotencyKeyReused(
            "This idempotency key was used for another request. Send the same request with it, or use a new key.",
            param=Header.IDEMPOTENCY_KEY,
            details={"run_id": found.run_id},
        )
    if releases_idempotency_key(run):
        # The earlier run did nothing, so executing the request now executes it once.
        _free(connection, key, run.id)
        return None
    if grant is not None:
        record_grant(connection, grant)
    return run


def _free(connection: Connection, key: IdempotencyKey, run_id: RunId) -> None:
    connection.execute(_FREE_KEY, {"of": key.scope, "named": key.key, "of_run": run_id})


def get_run_of_key(connection: Connection, scope: str, key: str) -> RunRecord | None:
    """Return the run of an idempotency key, whatever the request was."""
    found = connection.execute(_KEY, {"of": scope, "named": key}).one_or_none()
    return None if found is None else run_of(connection.execute(_RUN, {"run_id": found.run_id}).one())


def record_key(connection: Connection, key: IdempotencyKey, run_id: RunId) -> None:
    """Record an idempotency key for a run.

    Raises:
        KeyTaken: another transaction has recorded it.
    """
    try:
        connection.execute(insert(idempotency_keys), {**asdict(key), "run_id": run_id})
    except IntegrityError:
        raise KeyTaken from None


def delete_expired(connection: Connection, now: float) -> None:
    """Delete the expired idempotency keys whose runs have ended, and the grants that have expired."""
    connection.execute(_DELETE_EXPIRED_KEYS, {"now": now})
    connection.execute(_DELETE_EXPIRED_GRANTS, {"now": now})


def record_grant(connection: Connection, grant: Grant) -> None:
    """Record a grant as used.

    Raises:
        AuthenticationError: it was used before.
    """
    try:
        connection.execute(insert(grants), {"issuer": grant.issuer, "jti": grant.jti, "expires_at": grant.expires_at})
    except IntegrityError:
        raise AuthenticationError("This grant was used before; each opens one run.") from None
