"""The measurements: each drives the stage and returns its figures, with the bars of the project."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence

from bench.figures import Figure, percentile, spread
from bench.ledger import measure_ledger
from bench.stage import Stage, seconds_until_200

type Bare = Callable[[str], Awaitable[float]]
"""Runs a task with the bare SDK and returns the seconds that it took."""

type Measure = Callable[[Stage], Awaitable[list[Figure]]]


async def timed(action: Awaitable[object]) -> float:
    """Seconds that an action takes."""
    begin = time.perf_counter()
    await action
    return time.perf_counter() - begin


async def measure_start(stage: Stage) -> list[Figure]:
    """From exec to the first sign of life, to readiness, to the first answer."""
    health_s = await seconds_until_200(stage, "/health")
    ready_s = await seconds_until_200(stage, "/ready")
    await stage.ask("plain", "ok")
    answer_s = time.monotonic() - stage.processes.started_at
    return [
        Figure("/health after exec", health_s, "s", 2.0),
        Figure("/ready after exec", ready_s, "s"),
        Figure("first answer after exec", answer_s, "s", 12.0),
        Figure("memory, idle", stage.memory_mb, "MB", 350.0),
    ]


def one_turn(bare: Bare, rounds: int) -> Measure:
    """One LLM call of 0 ms, over HTTP and with the bare SDK in process, turn and turn about."""

    async def measure(stage: Stage) -> list[Figure]:
        over_http: list[float] = []
        in_process: list[float] = []
        for _ in range(rounds):
            over_http.append(await timed(stage.ask("plain", "ok")))
            in_process.append(await bare("ok"))
        ratio = percentile(over_http, 0.5) / percentile(in_process, 0.5)
        return [
            *spread("one turn over HTTP", over_http, p50_ms=20, p99_ms=40),
            *spread("one turn, bare SDK in process", in_process),
            Figure("one turn, HTTP / bare SDK", ratio, "×", 1.6, samples=rounds),
        ]

    return measure


def first_delta(streams: int, rounds: int, *, p50_ms: float, p99_ms: float | None = None) -> Measure:
    """From the instant at which the LLM sends its first token until the client has it."""

    async def one(stage: Stage, delay_s: float) -> float:
        await asyncio.sleep(delay_s)
        async with stage.post("plain", "tokens 40 50 1500" if streams > 1 else "tokens 10 20 50", stream=True) as response:
            latency_s, rest = 0.0, b""
            async for piece in response.content.iter_any():
                arrived_ns = time.monotonic_ns()  # what reading it takes the client is not the gateway's
                *lines, rest = (rest + piece).split(b"\n")
                if not latency_s and (sent_ns := next(filter(None, map(_content, lines)), None)):
                    latency_s = (arrived_ns - int(sent_ns)) / 1e9
            return latency_s

    async def measure(stage: Stage) -> list[Figure]:
        latencies: list[float] = []
        for _ in range(rounds):
            # All set-ups are over before the first of them gets its first token.
            latencies += await asyncio.gather(*(one(stage, index / streams) for index in range(streams)))
        return spread(f"first delta, {streams} stream{'s' if streams > 1 else ''}", latencies, p50_ms=p50_ms, p99_ms=p99_ms)

    return measure


def _content(line: bytes) -> str | None:
    if not line.startswith(b"data: {"):
        return None
    choices = json.loads(line[6:])["choices"]
    return choices[0]["delta"].get("content") or None if choices else None


async def measure_terminal(stage: Stage) -> list[Figure]:
    """Three terminal calls in one run."""
    took = [await timed(stage.ask("shell", "shell 3")) for _ in range(12)]
    return [Figure("three terminal calls, p50", percentile(took, 0.5), "s", 0.30, samples=len(took))]


async def measure_continuation(stage: Stage) -> list[Figure]:
    """The second request of a conversation."""
    took = []
    for _ in range(60):
        conversation_id = await stage.ask("plain", "ok")
        took.append(await timed(stage.ask("plain", "ok", conversation_id=conversation_id)))
    return spread("conversation continued", took, p50_ms=18)


def load(workers: int, seconds: float, *, bar_per_s: float) -> Measure:
    """Closed loop of workers, each with the next request as soon as it has its answer, against an LLM of 500 ms."""

    async def measure(stage: Stage) -> list[Figure]:
        took: list[float] = []
        begin = time.perf_counter()

        async def work() -> None:
            while time.perf_counter() - begin < seconds:
                took.append(await timed(stage.ask("plain", "wait 500")))

        await asyncio.gather(*(work() for _ in range(workers)))
        per_s = len(took) / (time.perf_counter() - begin)
        return [
            Figure(f"{workers} workers, LLM 500 ms", per_s, "runs/s", bar_per_s, "higher", len(took)),
            Figure(f"{workers} workers, p99", percentile(took, 0.99), "s", samples=len(took)),
        ]

    return measure


async def measure_nesting(stage: Stage) -> list[Figure]:
    """Twenty delegations, one inside the other, and twenty agents that delegate at the same time."""
    await stage.ask("chain", "descend 1")
    deep_s, wide_s = [], []
    for _ in range(5):
        deep_s.append(await timed(stage.ask("chain", "descend 20")))
        wide_s.append(await timed(asyncio.gather(*(stage.ask("chain", "descend 1") for _ in range(20)))))
    return [
        Figure("20 nested delegations, p50", percentile(deep_s, 0.5), "s", 0.8, samples=len(deep_s)),
        Figure("20 agents delegate at once, p50", percentile(wide_s, 0.5), "s", 0.8, samples=len(wide_s)),
    ]


async def measure_abandonment(stage: Stage) -> list[Figure]:
    """A chain three deep whose client goes away: how soon the last LLM connection is closed, and what is called afterwards."""
    closed_after: list[float] = []
    late_calls = 0
    for _ in range(5):
        before = await stage.traffic()
        call = asyncio.ensure_future(stage.ask("chain", "strand 2"))
        while (await stage.traffic())["received"] < before["received"] + 3:
            await asyncio.sleep(0.01)
        gone_ns = time.monotonic_ns()
        call.cancel()
        while (after := await stage.traffic())["in_flight"]:
            await asyncio.sleep(0.005)
        closed_after.append((after["last_disconnect_ns"] - gone_ns) / 1e9)
        # Long enough for a retry or a next turn to show, had there been one.
        await asyncio.sleep(1.0)
        late_calls += (await stage.traffic())["received"] - after["received"]
    return [
        Figure("client gone, chain of three: last LLM connection closed", max(closed_after), "s", 0.1, samples=5),
        Figure("LLM calls after the client had gone", float(late_calls), "calls", 0.0, samples=5),
    ]


def memory(runs: int) -> Measure:
    """Resident memory after many runs, and whether it still grows."""

    async def measure(stage: Stage) -> list[Figure]:
        at_half = await _run_many(stage, runs // 2)
        at_end = await _run_many(stage, runs - runs // 2)
        return [
            Figure(f"memory after {runs} runs", at_end, "MB", 380.0, samples=runs),
            Figure("memory growth over the second half", at_end - at_half, "MB", 8.0, samples=runs // 2),
        ]

    return measure


async def _run_many(stage: Stage, runs: int) -> float:
    left = iter(range(runs))

    async def work() -> None:
        for _ in left:
            await stage.ask("plain", "ok")

    await asyncio.gather(*(work() for _ in range(8)))
    return stage.memory_mb


def all_measures(bare: Bare, *, quick: bool) -> Sequence[tuple[str, Measure]]:
    """Every measurement by name, in an order in which none disturbs the next; `quick` takes fewer samples."""
    few = 5 if quick else 1
    return (
        ("one-turn", one_turn(bare, 300 // few)),
        ("memory", memory(2000 // few)),
        ("first-delta", first_delta(1, 40 // few, p50_ms=2)),
        ("first-delta-50", first_delta(50, max(1, 4 // few), p50_ms=5, p99_ms=20)),
        ("terminal", measure_terminal),
        ("continuation", measure_continuation),
        ("nesting", measure_nesting),
        ("abandonment", measure_abandonment),
        ("load-50", load(50, 10 / few, bar_per_s=55)),
        ("load-200", load(200, 10 / few, bar_per_s=70)),
        ("ledger", measure_ledger),
    )
