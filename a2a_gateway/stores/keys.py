"""API keys: long-lived secrets of people and programs. Implements `runs.ports.Keys`, and creates, lists and revokes keys.

A key reads `a2a_<id>_<secret>`: the id finds the row, the secret is 256 random bits. Only the SHA-256 of the whole text is
stored. A slow password hash protects secrets that can be guessed. 2**256 values cannot be enumerated, so one fast hash is as safe
and costs a request nothing. The id within the text is the salt. Every key is 60 characters long.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection, bindparam, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from a2a_gateway.errors import AuthenticationError, ConfigurationError
from a2a_gateway.runs.key_limits import RequestLimits
from a2a_gateway.runs.model import KeyId, KeyRecord, SpendCaps
from a2a_gateway.runs.ports import Clock
from a2a_gateway.stores.database import Database
from a2a_gateway.stores.rows import key_of, values_of_caps, values_of_policy, values_of_request_limits
from a2a_gateway.stores.schema import keys
from delegate_tool.protocol.limits import LimitPolicy

USE_RECORDED_EVERY_S: Final = 60.0
"""How old `last_used_at` may become before a use updates it. So most requests only read."""

_SECRET: Final = re.compile(r"a2a_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
_OF_PEERS: Final = "peer:"
_NAME: Final = re.compile(r"(?![0-9a-f]{12}$|peer:)\S(?:[^\x00-\x1f\x7f]{0,62}\S)?")
_PART_OF_ID: Final = re.compile("[0-9a-f]{4,11}")
_NO_KEY: Final = KeyId("")
_NO_LIMITS: Final = RequestLimits()
_NO_HASH: Final = bytes(hashlib.sha256().digest_size)

_BY_ID: Final = select(keys).where(keys.c.id == bindparam("key_id"))
_REVOKED: Final = select(keys).where(keys.c.id.in_(bindparam("key_ids", expanding=True)), keys.c.revoked_at.is_not(None))
_LATEST_BY_NAME: Final = (
    select(keys)
    .where(keys.c.name == bindparam("named"))
    .order_by(keys.c.revoked_at.is_not(None), keys.c.created_at.desc(), keys.c.id)
    .limit(1)
)
_RECORD_USE: Final = update(keys).where(keys.c.id == bindparam("key_id")).values(last_used_at=bindparam("now"))


@dataclass(frozen=True, slots=True)
class SqlKeys:
    """The keys in a database. Keys are not cached, so a revoked key is refused from the next request on."""

    database: Database
    clock: Clock

    async def authenticate(self, secret: str) -> KeyRecord:
        """Return the key that a secret belongs to, in constant time.

        Raises:
            AuthenticationError: unknown or revoked.
        """
        match = _SECRET.fullmatch(secret)
        key_id = KeyId(match.group(1)) if match else _NO_KEY
        presented = _hash(secret)
        now = self.clock.now()

        def work(connection: Connection) -> KeyRecord:
            # A malformed key takes the same steps as an unknown key: one look-up, one comparison.
            row = connection.execute(_BY_ID, {"key_id": key_id}).one_or_none()
            if not hmac.compare_digest(row.secret_sha256 if row else _NO_HASH, presented) or row is None:
                raise AuthenticationError("The API key is not known here. `a2a-gateway keys create NAME` makes one.")
            key = key_of(row)
            if key.revoked_at is not None:
                raise AuthenticationError(f"The API key {key.name!r} was revoked. Use another one.")
            return _record_use(connection, key, now)

        return await self.database.transaction(work)

    async def get_key(self, key_id: KeyId) -> KeyRecord | None:
        """Return a key by its id, also a revoked one."""

        def work(connection: Connection) -> KeyRecord | None:
            row = connection.execute(_BY_ID, {"key_id": key_id}).one_or_none()
            return None if row is None else key_of(row)

        return await self.database.transaction(work)

    async def list_revoked(self, key_ids: Collection[KeyId]) -> Sequence[KeyRecord]:
        """Return those of the keys that were revoked."""

        def work(connection: Connection) -> Sequence[KeyRecord]:
            return [key_of(row) for row in connection.execute(_REVOKED, {"key_ids": list(key_ids)})]

        return await self.database.transaction(work)

    async def create_key(
        self,
        name: str,
        policy: LimitPolicy | None = None,
        caps: SpendCaps | None = None,
        limits: RequestLimits | None = None,
        workspaces: Sequence[str] = (),
    ) -> tuple[KeyRecord, str]:
        """Create a key and return it with its secret, which is stored nowhere and cannot be read again.

        Args:
            policy: narrows each tree of the key; it has no budget.
            caps: bound what all trees of the key cost together.
            limits: bound how many requests there are.
            workspaces: directories below which it may name workspaces; absolute paths.

        Raises:
            ConfigurationError: the name is malformed, or a live key has it.
        """
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                "A key's name must have 1 to 64 printable characters and no space at its ends. It must not be 12 hexadecimal "
                "digits, which is the form of an id, nor begin with peer:, as the accounts of peers do.",
                param="name",
            )
        terms = policy or LimitPolicy(), caps or SpendCaps(), limits or RequestLimits()
        key = replace(_new_key(name, *terms, self.clock.now()), workspaces=tuple(workspaces))
        secret = f"a2a_{key.id}_{secrets.token_urlsafe(32)}"

        def work(connection: Connection) -> None:
            try:
                connection.execute(insert(keys), _values_of_new_key(key, _hash(secret)))
            except IntegrityError:
                raise ConfigurationError(
                    f"There is a key named {name!r} already. Revoke it, or choose another name.", param="name"
                ) from None

        await self.database.transaction(work)
        return key, secret

    async def of_peer(self, peer_id: str, policy: LimitPolicy, caps: SpendCaps, limits: RequestLimits = _NO_LIMITS) -> KeyRecord:
        """Return the key of a peer that presents grants, with its present limits. The first request creates the key.

        The key is an account without a secret, so it cannot be presented. A revoked key stays revoked until `renew_peer`.

        Raises:
            AuthenticationError: it was revoked.
        """
        now, name = self.clock.now(), peer_key_name(peer_id)

        def work(connection: Connection) -> KeyRecord:
            row = connection.execute(_LATEST_BY_NAME, {"named": name}).one_or_none()
            if row is None:
                return _insert_peer_key(connection, _new_key(name, policy, caps, limits, now))
            key = key_of(row)
            if key.revoked_at is not None:
                raise AuthenticationError(
                    f"The account of the peer {peer_id} was revoked, so its grants are refused. `peer add` makes a new one."
                )
            if (key.policy, key.caps, key.request_limits) != (policy, caps, limits):
                changed = _values_of_terms(policy, caps, limits)
                connection.execute(update(keys).where(keys.c.id == key.id).values(changed))
            return replace(_record_use(connection, key, now), policy=policy, caps=caps, request_limits=limits)

        try:
            return await self.database.transaction(work)
        except _PeerKeyExists:
            return await self.database.transaction(work)

    async def renew_peer(self, peer_id: str, policy: LimitPolicy, caps: SpendCaps, limits: RequestLimits = _NO_LIMITS) -> None:
        """Create a new key for a peer whose key was revoked. A live key stays."""
        now, name = self.clock.now(), peer_key_name(peer_id)

        def work(connection: Connection) -> None:
            row = connection.execute(_LATEST_BY_NAME, {"named": name}).one_or_none()
            if row is not None and row.revoked_at is not None:
                _insert_peer_key(connection, _new_key(name, policy, caps, limits, now))

        await self.database.transaction(work)

    async def list_keys(self) -> Sequence[KeyRecord]:
        """Return all keys, also revoked ones, oldest first."""

        def work(connection: Connection) -> Sequence[KeyRecord]:
            return [key_of(row) for row in connection.execute(select(keys).order_by(keys.c.created_at, keys.c.id))]

        return await self.database.transaction(work)

    async def revoke(self, name_or_id: str) -> KeyRecord:
        """Revoke the key with this id, or the live key with this name. Revoking it again changes nothing.

        Args:
            name_or_id: if it is neither, the beginning of the id of one key, of at least 4 characters.

        Raises:
            ConfigurationError: there is no such key, or several.
        """
        now = self.clock.now()

        def work(connection: Connection) -> KeyRecord:
            key = _find_key(connection, name_or_id)
            if key.revoked_at is None:
                key = replace(key, revoked_at=now)
                connection.execute(update(keys).where(keys.c.id == key.id).values(revoked_at=now))
            return key

        return await self.database.transaction(work)


def peer_key_name(peer_id: str) -> str:
    """Return the name of a peer's key in lists of keys and of spending."""
    return _OF_PEERS + peer_id


def is_secret(key: KeyRecord) -> bool:
    """Return whether a key has a secret that a client can present. A peer's account has no such secret."""
    return not key.name.startswith(_OF_PEERS)


def _find_key(connection: Connection, name_or_id: str) -> KeyRecord:
    named = select(keys).where(or_(keys.c.id == name_or_id, (keys.c.name == name_or_id) & keys.c.revoked_at.is_(None)))
    found = connection.execute(named).all()
    if not found and _PART_OF_ID.fullmatch(name_or_id):
        found = connection.execute(select(keys).where(keys.c.id.startswith(name_or_id)).order_by(keys.c.id)).all()
    if not found:
        raise ConfigurationError(f"There is no live key {name_or_id!r}. `a2a-gateway keys list` shows them all.")
    if len(found) > 1:
        several = ", ".join(f"{row.id} ({row.name})" for row in found)
        raise ConfigurationError(f"Several keys have an id that begins with {name_or_id!r}: {several}. Give more of it.")
    return key_of(found[0])


def _new_key(name: str, policy: LimitPolicy, caps: SpendCaps, limits: RequestLimits, now: float) -> KeyRecord:
    return KeyRecord(KeyId(secrets.token_hex(6)), name, policy, created_at=now, caps=caps, request_limits=limits)


def _values_of_new_key(key: KeyRecord, secret_sha256: bytes) -> dict[str, object]:
    values = {"id": key.id, "name": key.name, "secret_sha256": secret_sha256, "created_at": key.created_at}
    values |= {"workspaces": key.workspaces}
    return values | _values_of_terms(key.policy, key.caps, key.request_limits)


def _values_of_terms(policy: LimitPolicy, caps: SpendCaps, limits: RequestLimits) -> dict[str, object]:
    return values_of_policy(policy) | values_of_caps(caps) | values_of_request_limits(limits)


def _insert_peer_key(connection: Connection, key: KeyRecord) -> KeyRecord:
    try:
        connection.execute(insert(keys), _values_of_new_key(key, secrets.token_bytes(len(_NO_HASH))))
    except IntegrityError:
        raise _PeerKeyExists from None
    return key


class _PeerKeyExists(Exception):
    """Another transaction has created the same peer's key first (PostgreSQL)."""


def _record_use(connection: Connection, key: KeyRecord, now: float) -> KeyRecord:
    """Record that a key is used, unless a recent use is recorded."""
    if key.last_used_at is not None and now - key.last_used_at < USE_RECORDED_EVERY_S:
        return key
    connection.execute(_RECORD_USE, {"key_id": key.id, "now": now})
    return replace(key, last_used_at=now)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
