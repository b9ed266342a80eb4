"""Conversations on a real SQLite file: kept, leased one run at a time, expired."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from a2a_gateway.errors import InternalError
from a2a_gateway.runs.model import Conversation, ConversationId, KeyId
from a2a_gateway.stores import SqlConversations, Store, open_store
from a2a_gateway.stores.schema import CompressedText

pytestmark = pytest.mark.anyio

NOW = 1_700_000_000.0
CID = ConversationId("c-1")


class FixedClock:
    def now(self) -> float:
        return NOW

    def wall(self) -> float:
        return self.now()


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, FixedClock()) as store:
        yield store


@pytest.fixture
async def owner(store: Store) -> KeyId:
    return (await store.keys.create_key("laptop"))[0].id


def conversation(owner: KeyId, conversation_id: ConversationId = CID, expires_at: float = NOW + 60) -> Conversation:
    return Conversation(conversation_id, owner, "openhands_a", NOW, NOW, expires_at, "/workspaces/c-1", "[]" * 2000)


async def keep(conversations: SqlConversations, kept: Conversation) -> None:
    async with conversations.lease(kept.id):
        await conversations.save(kept)


async def test_a_conversation_is_found_again_as_it_was_last_saved(store: Store, owner: KeyId) -> None:
    first = conversation(owner)
    async with store.conversations.lease(CID) as found:
        assert found is None
        await store.conversations.save(first)
    changed = replace(first, used_at=NOW + 9, workspace_dir=None, transcript="{\n}")
    async with store.conversations.lease(CID) as found:
        assert found == first
        await store.conversations.save(changed)
    async with store.conversations.lease(CID) as found:
        assert found == changed


async def test_a_conversation_that_a_run_begins_is_held_and_saved_as_any_other(store: Store, owner: KeyId) -> None:
    async with store.conversations.begin(CID):
        assert store.conversations.leased == {CID}
        await store.conversations.save(conversation(owner))
    async with store.conversations.lease(CID) as found:
        assert found == conversation(owner)


async def test_a_conversation_is_saved_by_the_run_that_holds_it_only(store: Store, owner: KeyId) -> None:
    with pytest.raises(InternalError):
        await store.conversations.save(conversation(owner))


async def test_runs_on_one_conversation_take_turns_in_the_order_they_came(store: Store, owner: KeyId) -> None:
    inside: list[int] = []
    order: list[int] = []

    async def run(number: int) -> None:
        async with store.conversations.lease(CID) as found:
            inside.append(number)
            assert inside == [number]
            before = found.transcript if found else ""
            await store.conversations.save(replace(conversation(owner), transcript=f"{before}{number}"))
            order.append(number)
            inside.remove(number)

    await asyncio.gather(*(run(number) for number in range(6)))
    assert order == list(range(6))
    async with store.conversations.lease(CID) as found:
        assert found is not None
        assert found.transcript == "012345"


async def test_different_conversations_do_not_wait_for_each_other(store: Store) -> None:
    both_inside = asyncio.Barrier(2)

    async def run(name: str) -> None:
        async with store.conversations.lease(ConversationId(name)):
            await both_inside.wait()

    async with asyncio.timeout(20):
        await asyncio.gather(run("one"), run("two"))


async def test_a_run_that_gives_up_waiting_does_not_hold_up_the_next(store: Store) -> None:
    entered = asyncio.Event()

    async def wait_for_turn() -> None:
        async with store.conversations.lease(CID):
            entered.set()

    async with store.conversations.lease(CID):
        gives_up, stays = asyncio.create_task(wait_for_turn()), asyncio.create_task(wait_for_turn())
        await asyncio.sleep(0)  # both have queued
        gives_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gives_up
        assert not entered.is_set()
    async with asyncio.timeout(20):
        await stays
    assert entered.is_set()


async def test_nothing_is_remembered_of_a_lease_that_has_ended(store: Store) -> None:
    async def fail() -> None:
        async with store.conversations.lease(CID):
            raise RuntimeError("the run broke")

    with pytest.raises(RuntimeError):
        await fail()
    interrupted = asyncio.create_task(fail())
    await asyncio.sleep(0)
    interrupted.cancel()
    with pytest.raises(asyncio.CancelledError):
        await interrupted
    assert store.conversations.leased == frozenset()


async def test_expired_conversations_are_removed_and_returned_unless_leased(store: Store, owner: KeyId) -> None:
    old, leased, young = (
        conversation(owner, ConversationId("old"), NOW - 2),
        conversation(owner, ConversationId("leased"), NOW - 1),
        conversation(owner, ConversationId("young"), NOW + 1),
    )
    for one in (old, leased, young):
        await keep(store.conversations, one)
    async with asyncio.timeout(20), store.conversations.lease(leased.id):
        assert await store.conversations.expire(NOW) == [old]
    assert await store.conversations.expire(NOW) == [leased]
    assert await store.conversations.expire(NOW) == []
    async with store.conversations.lease(young.id) as found:
        assert found == young


@given(st.text(st.characters(codec=None), max_size=200))
@settings(deadline=None)
def test_any_text_survives_compression(text: str) -> None:
    column, dialect = CompressedText(), sqlite.dialect()
    assert column.process_result_value(column.process_bind_param(text, dialect), dialect) == text
