"""Keys on a real SQLite file."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from a2a_gateway.errors import AuthenticationError, ConfigurationError
from a2a_gateway.runs.key_limits import RequestLimits
from a2a_gateway.runs.model import KeyId, KeyRecord, SpendCaps
from a2a_gateway.stores import SqlKeys, open_store, sqlite_url
from a2a_gateway.stores.keys import is_secret
from delegate_tool.protocol.limits import LimitPolicy
from tests.error_texts.texts import pattern_of
from tests.stores.ledger_bench import NOW, SteppedClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
async def keys(database_url: str, clock: SteppedClock) -> AsyncIterator[SqlKeys]:
    async with open_store(database_url, clock) as store:
        yield store.keys


async def test_a_secret_finds_its_key(keys: SqlKeys, clock: SteppedClock) -> None:
    policy = LimitPolicy(2, 3, 4, 5.5, 6, allowed_agents=frozenset({"openhands_b", "openhands_a"}))
    caps = SpendCaps(7_000_000, 500_000, 2_000_000)
    limits = RequestLimits(8, 9)
    made, secret = await keys.create_key("laptop", policy, caps, limits)
    await keys.create_key("server")
    assert made == KeyRecord(made.id, "laptop", policy, created_at=NOW, caps=caps, request_limits=limits)
    assert re.fullmatch(rf"a2a_{made.id}_[A-Za-z0-9_-]{{43}}", secret)
    assert await keys.authenticate(secret) == replace(made, last_used_at=NOW)


async def test_of_several_keys_the_revoked_ones_are_found(keys: SqlKeys) -> None:
    made = [(await keys.create_key(name))[0] for name in ("laptop", "server", "phone")]
    await keys.revoke("server")
    await keys.revoke("phone")
    assert [key.name for key in await keys.list_revoked([made[0].id, made[1].id, KeyId("0" * 12)])] == ["server"]
    assert await keys.list_revoked([]) == []


async def test_a_key_for_no_agent_is_not_a_key_for_any(keys: SqlKeys) -> None:
    made, _ = await keys.create_key("missing", LimitPolicy(allowed_agents=frozenset()))
    assert await keys.get_key(made.id) == made


async def test_what_is_not_a_live_keys_secret_is_refused(keys: SqlKeys) -> None:
    made, secret = await keys.create_key("laptop")
    _, other_secret = await keys.create_key("server")
    swapped = f"a2a_{made.id}_{other_secret.split('_', 2)[2]}"
    for wrong in (
        "",
        "x",
        "a2a_",
        secret[:-1],
        secret + "A",
        secret.upper(),
        swapped,
        f"a2a_{'0' * 12}_{secret[-43:]}",
        "\x00",
        "\ud800",
    ):
        with pytest.raises(AuthenticationError) as refusal:
            await keys.authenticate(wrong)
        assert refusal.value.code == "invalid_api_key"
        assert secret[-43:] not in refusal.value.message


async def test_a_revoked_key_is_refused_at_once(keys: SqlKeys) -> None:
    made, secret = await keys.create_key("laptop")
    await keys.authenticate(secret)
    revoked = await keys.revoke("laptop")
    assert revoked == replace(made, revoked_at=NOW, last_used_at=NOW)
    with pytest.raises(AuthenticationError, match=pattern_of("invalid_api_key: revoked")):
        await keys.authenticate(secret)
    assert await keys.get_key(made.id) == revoked


async def test_a_key_is_revoked_by_id_too_and_twice_is_once(keys: SqlKeys, clock: SteppedClock) -> None:
    made, _ = await keys.create_key("laptop")
    first = await keys.revoke(made.id)
    clock.at += 10
    assert await keys.revoke(made.id) == first
    for unknown in ("laptop", "server"):
        with pytest.raises(ConfigurationError, match=pattern_of("configuration_error: no live key of that name")):
            await keys.revoke(unknown)


async def test_a_name_belongs_to_one_live_key(keys: SqlKeys, clock: SteppedClock) -> None:
    first, _ = await keys.create_key("laptop")
    with pytest.raises(ConfigurationError, match=pattern_of("configuration_error: the key's name is taken")) as taken:
        await keys.create_key("laptop")
    assert taken.value.param == "name"
    revoked = await keys.revoke("laptop")
    clock.at += 1
    second, _ = await keys.create_key("laptop")
    assert first.id != second.id
    assert await keys.list_keys() == [revoked, second]


@pytest.mark.parametrize("name", ["", " ", " a", "a ", "a\nb", "a" * 65, "0123456789ab"])
async def test_a_name_must_be_readable_and_no_id(keys: SqlKeys, name: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        await keys.create_key(name)
    assert refusal.value.param == "name"


async def test_the_last_use_is_known_to_the_minute(keys: SqlKeys, clock: SteppedClock) -> None:
    made, secret = await keys.create_key("laptop")
    seen = []
    for seconds in (0, 59, 60, 61, 130):
        clock.at = NOW + seconds
        await keys.authenticate(secret)
        key = await keys.get_key(made.id)
        assert key is not None
        assert key.last_used_at is not None
        seen.append(key.last_used_at - NOW)
    assert seen == [0, 0, 60, 60, 130]


def all_bytes(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


async def test_no_secret_is_in_the_files(tmp_path: Path, clock: SteppedClock) -> None:
    async with open_store(sqlite_url(tmp_path / "gateway.db"), clock) as store:
        made, secret = await store.keys.create_key("laptop")
        await store.keys.authenticate(secret)
        during = all_bytes(tmp_path)
    after = all_bytes(tmp_path)
    for content in (during, after):
        assert made.id.encode() in content
        assert secret[-43:].encode() not in content


async def test_an_unknown_id_is_no_key(keys: SqlKeys) -> None:
    assert await keys.get_key(KeyId("missing")) is None


async def test_a_peers_account_follows_its_policy_and_stays_revoked_until_renewed(keys: SqlKeys, clock: SteppedClock) -> None:
    policy, caps = LimitPolicy(max_depth=2), SpendCaps(day_micro_usd=5)
    made = await keys.of_peer("box", policy, caps)
    assert (made.name, made.policy, made.caps) == ("peer:box", policy, caps)
    narrower = LimitPolicy(max_depth=1, allowed_agents=frozenset())
    again = await keys.of_peer("box", narrower, caps, RequestLimits(1, 2))
    assert (again.id, again.policy, again.request_limits) == (made.id, narrower, RequestLimits(1, 2))
    assert await keys.get_key(made.id) == again
    await keys.renew_peer("box", policy, caps)
    assert len(await keys.list_keys()) == 1

    await keys.revoke("peer:box")
    with pytest.raises(AuthenticationError, match=pattern_of("invalid_api_key: the peer's account was revoked")):
        await keys.of_peer("box", policy, caps)
    clock.at += 1
    await keys.renew_peer("box", policy, caps)
    assert (await keys.of_peer("box", policy, caps)).id != made.id


async def test_a_peers_account_is_no_key_that_somebody_has(keys: SqlKeys) -> None:
    account = await keys.of_peer("box", LimitPolicy(), SpendCaps())
    made, _ = await keys.create_key("laptop")
    assert (is_secret(account), is_secret(made)) == (False, True)
    with pytest.raises(ConfigurationError, match=pattern_of("configuration_error: the key's name is a peer's")) as refused:
        await keys.create_key("peer:other")
    assert refused.value.param == "name"


async def test_visits_of_a_new_peer_at_the_same_time_make_one_account(keys: SqlKeys) -> None:
    found = await asyncio.gather(*(keys.of_peer("box", LimitPolicy(), SpendCaps()) for _ in range(20)))
    assert len({key.id for key in found}) == 1
