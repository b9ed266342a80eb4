"""What raises the errors of runs under way and of connections: a run service on a scripted runner, and the server's own parts."""

import asyncio
import socket
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from a2a_gateway import Gateway, Settings
from a2a_gateway.errors import GatewayError
from a2a_gateway.runs.events import Failed, Finished, RunEnded
from a2a_gateway.runs.model import RunId
from a2a_gateway.server.connection_limits import ConnectionLimits, Phase
from a2a_gateway.server.origin import ConnectionEnds, Origins
from a2a_gateway.testing.scripted_runner import Until
from a2a_gateway.wire.outcome import render_outcome
from tests.error_texts.texts import Case
from tests.runs.service_bench import bench_of, by_task, end_of, follow

_LIMITS = ConnectionLimits(max_connections=3, head_timeout_s=20, body_timeout_s=30)


@dataclass(eq=False)
class _SlowConnection:
    """A connection whose request never comes."""

    phase: Phase
    waited_s: float | None = 3600.0
    body_bytes: int = 10
    error: GatewayError | None = None

    def note_reading(self) -> None: ...

    def refuse(self, error: GatewayError) -> None:
        self.error = error

    def abort(self) -> None: ...


def slow(phase: Phase) -> Case:
    def case(_: Path) -> object:
        connection = _SlowConnection(phase)
        _LIMITS.close_overdue([connection], 1.0)
        return connection.error

    return case


async def _conversation_of_the_parent(directory: Path) -> object:
    gate = asyncio.Event()
    ending = RunEnded(Finished("done"), "history")
    async with bench_of(directory, by_task(lead=[Until(gate), ending], part=[ending]), ttl_s=60) as bench:
        lead = await bench.start("lead")
        part = await bench.start("part", lead, conversation_id=lead.record.conversation_id)
        outcome = end_of(await follow(part)).outcome
        gate.set()
        await follow(lead)
    assert isinstance(outcome, Failed)
    return outcome.error


async def _cut_off_by_a_shutdown(directory: Path) -> object:
    async with bench_of(directory, by_task(task=[Until(asyncio.Event())])) as bench:
        run = await bench.start()
        await bench.service.drain(timeout_s=0)
        return render_outcome(end_of(await follow(run)))


async def _lost_run(directory: Path) -> object:
    async with bench_of(directory, by_task(task=[RunEnded(Finished("done"), "history")])) as bench:
        await follow(await bench.start(idempotency_key="once"))
        bench.change("DELETE FROM answers")
        with (await bench.start(idempotency_key="once")).listen() as listener:
            outcome = end_of(await listener.take()).outcome
    assert isinstance(outcome, Failed)
    return outcome.error


async def _while_draining(directory: Path) -> object:
    async with bench_of(directory, by_task()) as bench:
        bench.service.draining = True
        return await bench.start()


async def _key_of_an_agents_process(_: Path) -> object:
    processes: Any = SimpleNamespace(exist=True, run_with_socket=lambda *_: RunId("root"))
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        accepted, _address = listener.accept()
        with accepted:
            return await Origins(processes, "refuse").find_parent(ConnectionEnds(client.getsockname(), listener.getsockname()))


CASES: dict[str, Case] = {
    "conversation_busy: it is the parent's": _conversation_of_the_parent,
    "run_cancelled: the gateway shut down": _cut_off_by_a_shutdown,
    "run_lost: its answer is not kept": _lost_run,
    "not_ready: the gateway is shutting down": _while_draining,
    "not_ready: the gateway has not been entered": lambda directory: Gateway(Settings(data_dir=directory)).started,
    "capacity_exceeded: all connections are in use": lambda _: _LIMITS.full(),
    "request_timeout: the head is slow": slow(Phase.HEAD),
    "request_timeout: the body is slow": slow(Phase.BODY),
    "root_key_from_agent: from an agent's process": _key_of_an_agents_process,
}
