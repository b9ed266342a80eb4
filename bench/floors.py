"""The floors: the same work without the gateway. Each is measured next to the figures above it, on the same machine."""

import asyncio
import json
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import aiohttp

from bench.figures import Floor, median_ms

type Bare = Callable[[str], Awaitable[float]]
"""Runs a task with the bare SDK and returns the seconds that it took."""

_BARE_RUNS: Final = 30
_TRANSACTIONS: Final = 300
_SCHEMA: Final = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)"


async def timed(action: Awaitable[object]) -> float:
    """Return the seconds that an action takes."""
    begin = time.perf_counter()
    await action
    return time.perf_counter() - begin


async def bare_turn(bare: Bare) -> Floor:
    """Measure one run of one turn with the bare SDK, in this process."""
    return Floor("bare turn", median_ms([await bare("ok") for _ in range(_BARE_RUNS)]))


async def sdk_import() -> Floor:
    """Measure a fresh process that does no more than import the SDK."""

    async def start() -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import openhands.sdk")
        if await process.wait():
            raise RuntimeError("the SDK cannot be imported")

    return Floor("import of the SDK", 1000 * await timed(start()))


def transaction(directory: Path) -> Floor:
    """Measure one write transaction of SQLite, set up as the store sets it up."""
    took = []
    with closing(sqlite3.connect(directory / "floor.db", isolation_level=None)) as connection:
        connection.executescript(_SCHEMA)
        for number in range(_TRANSACTIONS):
            begin = time.perf_counter()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO t VALUES (?, 1)", (number,))
            connection.execute("UPDATE t SET n = n + 1 WHERE id = ?", (number,))
            connection.execute("COMMIT")
            took.append(time.perf_counter() - begin)
    return Floor("transaction", median_ms(took))


async def first_delta_s(response: aiohttp.ClientResponse) -> float:
    """Read a stream to its end; return the seconds between the LLM's sending the first token and its arrival here."""
    latency_s = 0.0
    async for arrived_ns, content in _tokens(response):
        latency_s = latency_s or (arrived_ns - int(content)) / 1e9
    return latency_s


async def _tokens(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[int, str]]:
    rest = b""
    async for piece in response.content.iter_any():
        arrived_ns = time.monotonic_ns()  # what reading it takes the client is not the server's
        *lines, rest = (rest + piece).split(b"\n")
        for content in filter(None, map(_content, lines)):
            yield arrived_ns, content


def _content(line: bytes) -> str | None:
    if not line.startswith(b"data: {"):
        return None
    choices = json.loads(line[6:])["choices"]
    return choices[0]["delta"].get("content") or None if choices else None
