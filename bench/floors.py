"""Measure the floors: the same work without the gateway, in the same run as the figures."""

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

from bench.figures import Floor, FloorSeries, median_ms

type Bare = Callable[[str], Awaitable[float]]
"""Runs a task with the bare SDK and returns the seconds that it took."""

_TRANSACTIONS: Final = 300
_SCHEMA: Final = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)"


async def seconds_of(action: Awaitable[object]) -> float:
    """Return the seconds that an action takes."""
    begin = time.perf_counter()
    await action
    return time.perf_counter() - begin


class BareTurns:
    """Measures runs of one turn with the bare SDK in this process, in alternation with the work of which they are the floor."""

    def __init__(self, bare: Bare) -> None:
        self._bare = bare
        self._values_s: list[float] = []

    async def sample(self, count: int = 1) -> None:
        """Measure some more runs."""
        for _ in range(count):
            self._values_s.append(await self._bare("ok"))

    @property
    def series(self) -> FloorSeries:
        """All samples."""
        return FloorSeries("bare turn", self._values_s)

    @property
    def median(self) -> Floor:
        """The floor of one turn, in milliseconds."""
        return Floor("bare turn", median_ms(self._values_s))


async def sdk_import() -> Floor:
    """Measure a fresh process that only imports the SDK."""

    async def start() -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import openhands.sdk")
        if await process.wait():
            raise RuntimeError("the SDK cannot be imported")

    return Floor("import of the SDK", 1000 * await seconds_of(start()))


def two_transactions(directory: Path) -> FloorSeries:
    """Measure two write transactions of SQLite, set up as the store sets it up."""
    took = []
    with closing(sqlite3.connect(directory / "floor.db", isolation_level=None)) as connection:
        connection.executescript(_SCHEMA)
        for number in range(_TRANSACTIONS):
            begin = time.perf_counter()
            for statement in ("INSERT INTO t VALUES (?, 1)", "UPDATE t SET n = n + 1 WHERE id = ?"):
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(statement, (number,))
                connection.execute("COMMIT")
            took.append(time.perf_counter() - begin)
    return FloorSeries("two transactions", took)


async def first_delta_s(response: aiohttp.ClientResponse) -> float:
    """Read a stream to its end; return the seconds between the LLM's sending the first token and its arrival here."""
    latency_s = 0.0
    async for arrived_ns, content in _tokens(response):
        latency_s = latency_s or (arrived_ns - int(content)) / 1e9
    return latency_s


async def _tokens(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[int, str]]:
    rest = b""
    async for piece in response.content.iter_any():
        arrived_ns = time.monotonic_ns()  # taken first, because parsing is the client's work, not the server's
        *lines, rest = (rest + piece).split(b"\n")
        for content in filter(None, map(_content, lines)):
            yield arrived_ns, content


def _content(line: bytes) -> str | None:
    if not line.startswith(b"data: {"):
        return None
    choices = json.loads(line[6:])["choices"]
    return choices[0]["delta"].get("content") or None if choices else None
