"""The measurements: each drives the stage and returns its figures, with their floors and the bars of the project.

The bars are ratios that two idle cores reached, with some room: a bare turn took 14 ms there, a run over HTTP 16 ms. Two
cores that were busy with other work, where a bare turn took 27 ms, reached them as well.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

import aiohttp

from bench.figures import Figure, Floor, FloorSeries, median_ms, percentile, spread
from bench.floors import Bare, BareTurns, first_delta_s, sdk_import, seconds_of
from bench.ledger import measure_ledger
from bench.stage import Stage, seconds_until_200

type Measure = Callable[[Stage], Awaitable[list[Figure]]]

_LLM_S: Final = 0.5


async def measure_start(stage: Stage) -> list[Figure]:
    """Measure from exec to liveness, to readiness, and to the first answer."""
    health_s = await seconds_until_200(stage, "/health")
    ready_s = await seconds_until_200(stage, "/ready")
    await stage.ask("plain", "ok")
    answer_s = time.monotonic() - stage.processes.started_at
    memory_mb = stage.memory_mb
    floor = await sdk_import()
    return [
        Figure("/health after exec", 1000 * health_s, "ms", 0.4, floor),
        Figure("/ready after exec", 1000 * ready_s, "ms", None, floor),
        Figure("first answer after exec", 1000 * answer_s, "ms", 2, floor),
        Figure("memory, idle", memory_mb, "MB", 350),
    ]


def one_turn(bare: Bare, rounds: int) -> Measure:
    """Measure one LLM call of 0 ms, over HTTP and with the bare SDK in process, in alternation."""

    async def measure(stage: Stage) -> list[Figure]:
        turns, over_http = BareTurns(bare), []
        for _ in range(rounds):
            over_http.append(await seconds_of(stage.ask("plain", "ok")))
            await turns.sample()
        return spread("one turn over HTTP", over_http, turns.series, p50=1.45, p99=2)

    return measure


def first_delta(streams: int, rounds: int, *, p50: float, p99: float | None = None) -> Measure:
    """Measure from the LLM's first token until the client receives it; the floor is a client of the LLM itself."""
    task = "tokens 40 50 1500" if streams > 1 else "tokens 10 20 50"

    async def measure(stage: Stage) -> list[Figure]:
        from_llm = await latencies(lambda: stage.post_to_llm(task))
        from_gateway = await latencies(lambda: stage.post("plain", task, stream=True))
        name = f"first delta, {streams} stream{'s' if streams > 1 else ''}"
        return spread(name, from_gateway, FloorSeries("bare LLM", from_llm), p50=p50, p99=p99)

    async def latencies(post: Callable[[], AbstractAsyncContextManager[aiohttp.ClientResponse]]) -> list[float]:
        async def one(delay_s: float) -> float:
            await asyncio.sleep(delay_s)
            async with post() as response:
                return await first_delta_s(response)

        measured: list[float] = []
        for _ in range(rounds):
            # All runs are set up before the first of them receives its first token.
            measured += await asyncio.gather(*(one(index / streams) for index in range(streams)))
        return measured

    return measure


def terminal(bare: Bare) -> Measure:
    """Measure three terminal calls in one run, which has four turns."""

    async def measure(stage: Stage) -> list[Figure]:
        turns, took = BareTurns(bare), []
        for _ in range(12):
            took.append(await seconds_of(stage.ask("shell", "shell 3")))
            await turns.sample(3)
        return [Figure("three terminal calls, p50", median_ms(took), "ms", 2.5, turns.median.times(4), samples=len(took))]

    return measure


def continuation(bare: Bare) -> Measure:
    """Measure the second request of a conversation."""

    async def measure(stage: Stage) -> list[Figure]:
        turns, took = BareTurns(bare), []
        for _ in range(60):
            conversation_id = await stage.ask("plain", "ok")
            took.append(await seconds_of(stage.ask("plain", "ok", conversation_id=conversation_id)))
            await turns.sample()
        return spread("conversation continued", took, turns.series, p50=1.3)

    return measure


def load(bare: Bare, workers: int, seconds: float, *, bar: float) -> Measure:
    """Measure a closed loop of workers, each with the next request as soon as it has its answer, against an LLM of 500 ms.

    The floor is the same loop with the bare SDK in this process.
    """

    async def measure(stage: Stage) -> list[Figure]:
        task = f"wait {1000 * _LLM_S:g}"
        bare_per_s, _ = await _closed_loop(lambda: bare(task), workers, seconds)
        per_s, took = await _closed_loop(lambda: stage.ask("plain", task), workers, seconds)
        floor = Floor(f"bare SDK, {workers} workers", bare_per_s)
        return [
            Figure(f"{workers} workers, LLM 500 ms", per_s, "runs/s", bar, floor, "higher", len(took)),
            Figure(f"{workers} workers, p99", 1000 * percentile(took, 0.99), "ms", samples=len(took)),
        ]

    return measure


def nesting(bare: Bare) -> Measure:
    """Measure twenty delegations, one inside the other, and twenty agents that delegate at the same time.

    An agent that delegates has two turns, its last child has one.
    """

    async def measure(stage: Stage) -> list[Figure]:
        await stage.ask("chain", "descend 1")
        turns, bare_wide_s, deep_s, wide_s = BareTurns(bare), list[float](), list[float](), list[float]()
        for _ in range(5):
            await turns.sample(6)
            bare_wide_s.append(await seconds_of(asyncio.gather(*(_three(bare) for _ in range(20)))))
            deep_s.append(await seconds_of(stage.ask("chain", "descend 20")))
            wide_s.append(await seconds_of(asyncio.gather(*(stage.ask("chain", "descend 1") for _ in range(20)))))
        floor = Floor("bare SDK, 3 turns each", median_ms(bare_wide_s))
        return [
            Figure("20 nested delegations, p50", median_ms(deep_s), "ms", 1.4, turns.median.times(41), samples=len(deep_s)),
            Figure("20 agents delegate at once, p50", median_ms(wide_s), "ms", 1.45, floor, samples=len(wide_s)),
        ]

    return measure


def abandonment(bare: Bare) -> Measure:
    """Measure a chain of three whose client disconnects: how soon the last LLM connection closes, and what is called later."""

    async def measure(stage: Stage) -> list[Figure]:
        turns, closed_after = BareTurns(bare), list[float]()
        late_calls = 0
        for _ in range(5):
            await turns.sample(6)
            before = await stage.traffic()
            call = asyncio.ensure_future(stage.ask("chain", "strand 2"))
            while (await stage.traffic())["received"] < before["received"] + 3:
                await asyncio.sleep(0.01)
            gone_ns = time.monotonic_ns()
            call.cancel()
            while (after := await stage.traffic())["in_flight"]:
                await asyncio.sleep(0.005)
            closed_after.append((after["last_disconnect_ns"] - gone_ns) / 1e6)
            # Long enough for a retry or a next turn, if there is one.
            await asyncio.sleep(1.0)
            late_calls += (await stage.traffic())["received"] - after["received"]
        return [
            Figure(
                "client gone, chain of three: last LLM connection closed", max(closed_after), "ms", 3, turns.median, samples=5
            ),
            Figure("LLM calls after the client had gone", float(late_calls), "calls", 0, samples=5),
        ]

    return measure


def memory(runs: int) -> Measure:
    """Measure resident memory after many runs, and whether it still grows."""

    async def measure(stage: Stage) -> list[Figure]:
        at_half = await _run_many(stage, runs // 2)
        at_end = await _run_many(stage, runs - runs // 2)
        return [
            Figure(f"memory after {runs} runs", at_end, "MB", 380, samples=runs),
            Figure("memory growth over the second half", at_end - at_half, "MB", 8, samples=runs // 2),
        ]

    return measure


async def _three(bare: Bare) -> None:
    for _ in range(3):
        await bare("ok")


async def _closed_loop(action: Callable[[], Awaitable[object]], workers: int, seconds: float) -> tuple[float, list[float]]:
    """Repeat an action with some workers for some seconds; return the actions per second, and the seconds of each."""
    took = list[float]()
    begin = time.perf_counter()

    async def work() -> None:
        while time.perf_counter() - begin < seconds:
            took.append(await seconds_of(action()))

    await asyncio.gather(*(work() for _ in range(workers)))
    return len(took) / (time.perf_counter() - begin), took


async def _run_many(stage: Stage, runs: int) -> float:
    left = iter(range(runs))

    async def work() -> None:
        for _ in left:
            await stage.ask("plain", "ok")

    await asyncio.gather(*(work() for _ in range(8)))
    return stage.memory_mb


def all_measures(bare: Bare, *, quick: bool) -> Sequence[tuple[str, Measure]]:
    """Return every measurement by name, in an order in which none disturbs the next; `quick` takes fewer samples."""
    few = 5 if quick else 1
    return (
        ("one-turn", one_turn(bare, 300 // few)),
        ("memory", memory(2000 // few)),
        ("first-delta", first_delta(1, 40 // few, p50=25)),
        ("first-delta-50", first_delta(50, max(1, 4 // few), p50=25, p99=25)),
        ("terminal", terminal(bare)),
        ("continuation", continuation(bare)),
        ("nesting", nesting(bare)),
        ("abandonment", abandonment(bare)),
        ("load-50", load(bare, 50, 10 / few, bar=0.75)),
        ("load-200", load(bare, 200, 10 / few, bar=0.75)),
        ("ledger", measure_ledger),
    )
