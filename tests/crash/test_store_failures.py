"""The disk is full, the database locked or gone: clear errors, nothing that cannot be accounted for, and no restart needed."""

import asyncio
import resource
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIError, APIStatusError, AsyncOpenAI

from a2a_gateway.stores import sqlite_url
from a2a_gateway.testing.script import Gate, Step, Usage
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.crash.books import LIVE, Books
from tests.support.ask import content_of, partial_of, user
from tests.support.process import GatewayProcess
from tests.support.until import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

PROFILE = """---
name: priced
description: Works.
tools: [delegate]
a2a: {input_usd_per_mtok: 1.0, output_usd_per_mtok: 2.0}
---
You work."""
PRICED = "openhands_priced"


@pytest.fixture(scope="module")
def llm() -> Iterator[ScriptedLLM]:
    with ScriptedLLM.in_thread() as llm:
        yield llm


@pytest.fixture(scope="module")
def served(llm: ScriptedLLM, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayProcess, str]]:
    """A gateway, and its key."""
    gateway = GatewayProcess(tmp_path_factory.mktemp("gateway"), llm.base_url, "shell_pool_size = 0\n", is_warm=True)
    gateway.write_profiles(priced=PROFILE)
    key = gateway.start()["first_key"]
    try:
        yield gateway, key
    finally:
        gateway.end()


@pytest.fixture
async def client(served: tuple[GatewayProcess, str]) -> AsyncIterator[AsyncOpenAI]:
    gateway, key = served
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
        yield client


async def ask(client: AsyncOpenAI, *steps: Step) -> Any:
    return await client.chat.completions.create(model=PRICED, messages=[user("Go.", *steps)])


@asynccontextmanager
async def in_a_call(client: AsyncOpenAI, llm: ScriptedLLM, name: str) -> AsyncIterator["asyncio.Task[Any]"]:
    """Hold a run in the middle of a call that costs 702 micro-USD, and let it go on in the end."""
    asking = asyncio.create_task(ask(client, Step(content="paid for", usage=Usage(700, 1), gate=name)))
    await llm.wait_until(lambda traffic: traffic.waiting_at(name) == 1)
    try:
        yield asking
    finally:
        llm.open_gate(name)


async def refusal_of(work: Any) -> APIStatusError:
    with pytest.raises(APIStatusError) as refusal:
        await work
    error = refusal.value
    assert (error.status_code, error.code, error.type) == (503, "store_unavailable", "server_error")
    assert error.response.headers["retry-after"].isdigit()
    return error


async def ledger_once_booked(gateway: GatewayProcess) -> Books:
    """Wait until every run has ended in the ledger and nothing is held; return the ledger."""

    def ledger_at_rest() -> Books | None:
        books = Books.read(gateway.database_url)
        is_busy = books.open_holds() or [run for run in books.runs if run["state"] in LIVE]
        return None if is_busy else books

    books = await until(ledger_at_rest)
    assert books.disagreements() == []
    return books


def cost(books: Books, before: Books) -> int:
    return sum((books.spent() - before.spent()).values())


@contextmanager
def full_disk(gateway: GatewayProcess) -> Iterator[None]:
    """Let the gateway write to no file, its log and its database included."""
    assert gateway.process is not None
    soft, hard = resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def lock_database(gateway: GatewayProcess) -> Iterator[None]:
    """Let another process's transaction hold the database."""
    other = sqlite3.connect(gateway.data_dir / "gateway.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


@contextmanager
def moved_away(gateway: GatewayProcess) -> Iterator[None]:
    path = gateway.data_dir / "gateway.db"
    path.rename(path.with_suffix(".aside"))
    try:
        yield
    finally:
        path.with_suffix(".aside").rename(path)


def remove_database(path: Path) -> None:
    """Remove a database with SQLite's companions of it."""
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


@pytest.mark.parametrize("trouble", [full_disk, moved_away])
async def test_a_failing_database_admits_nothing_and_everything_is_booked_later(
    served: tuple[GatewayProcess, str], client: AsyncOpenAI, llm: ScriptedLLM, trouble: Any
) -> None:
    gateway, _ = served
    before = Books.read(gateway.database_url)
    async with in_a_call(client, llm, f"{trouble.__name__}") as asking:
        calls = llm.traffic.received
        with trouble(gateway):
            refusals = asyncio.gather(refusal_of(ask(client)), refusal_of(ask(client)))
            llm.open_gate(trouble.__name__)
            lost = await refusal_of(asking)
            at_the_door = await refusals
            async with httpx.AsyncClient(base_url=gateway.url) as http:
                assert (await http.get("/health")).json() == {"status": "ok"}
            assert llm.traffic.received == calls
    assert [error.response.headers["x-should-retry"] for error in (*at_the_door, lost)] == ["true", "true", "false"]
    assert partial_of(lost) == "paid for"
    after = await ledger_once_booked(gateway)
    assert cost(after, before) == 702
    assert len(after.runs) - len(before.runs) == 1
    assert (await ask(client, Step(content="as before"))).choices[0].message.content == "as before"


async def test_a_run_outlives_a_lock_that_keeps_others_out(
    served: tuple[GatewayProcess, str], client: AsyncOpenAI, llm: ScriptedLLM
) -> None:
    gateway, _ = served
    before = Books.read(gateway.database_url)
    async with in_a_call(client, llm, "locked") as asking:
        with lock_database(gateway):
            refusal = await refusal_of(ask(client))
        assert refusal.response.headers["x-should-retry"] == "true"
        llm.open_gate("locked")
        assert (await asking).choices[0].message.content == "paid for"
    assert cost(await ledger_once_booked(gateway), before) == 702


async def test_a_stream_that_has_begun_ends_with_the_error(
    served: tuple[GatewayProcess, str], client: AsyncOpenAI, llm: ScriptedLLM
) -> None:
    gateway, _ = served
    before = Books.read(gateway.database_url)
    step = Step(content="one two", gate=Gate("in-a-stream", after=2), usage=Usage(700, 1))
    stream: Any = await client.chat.completions.create(model=PRICED, messages=[user("Go.", step)], stream=True)
    told = []
    with full_disk(gateway), pytest.raises(APIError) as broken:
        async for chunk in stream:
            told.append(chunk)
            llm.open_gate("in-a-stream")
    assert broken.value.code == "store_unavailable"
    assert content_of(told) == "one two"
    assert cost(await ledger_once_booked(gateway), before) == 702


async def test_a_directory_that_cannot_be_made_is_told_and_costs_nothing(
    served: tuple[GatewayProcess, str], client: AsyncOpenAI
) -> None:
    gateway, _ = served
    await ask(client, Step(content="before"))
    before = Books.read(gateway.database_url)
    with in_the_way(gateway.data_dir / "workspaces"):
        refusal = await refusal_of(ask(client))
    assert refusal.code == "store_unavailable"
    assert refusal.response.headers["x-should-retry"] == "true"
    assert cost(await ledger_once_booked(gateway), before) == 0
    assert (await ask(client, Step(content="as before"))).choices[0].message.content == "as before"


@contextmanager
def in_the_way(directory: Path) -> Iterator[None]:
    """Put a file where a directory is to be."""
    aside = directory.with_suffix(".aside")
    directory.rename(aside)
    directory.touch()
    try:
        yield
    finally:
        directory.unlink()
        aside.rename(directory)


async def test_another_file_in_the_place_of_the_database_is_used_from_then_on(
    served: tuple[GatewayProcess, str], client: AsyncOpenAI
) -> None:
    gateway, _ = served
    path, copy = gateway.data_dir / "gateway.db", gateway.data_dir / "backup.db"
    await ask(client, Step(content="before"))
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    before = Books.read(sqlite_url(copy))
    remove_database(path)
    await refusal_of(ask(client))
    copy.rename(path)
    assert (await ask(client, Step(content="after", usage=Usage(5, 0)))).choices[0].message.content == "after"
    after = await ledger_once_booked(gateway)
    assert (len(after.runs) - len(before.runs), cost(after, before)) == (1, 5)
