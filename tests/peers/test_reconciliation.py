"""The cost of runs on peers, reconciled after a crash: from the peer's ledger, or not at all."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import SecretStr
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from a2a_gateway.host.clock import SystemClock
from a2a_gateway.peer_settings import PeerSettings
from a2a_gateway.peers import Identity, KnownPeers, PeerDirectory, Reconciler, SigningKey
from a2a_gateway.runs.model import RunId, RunRecord
from a2a_gateway.settings import Settings
from a2a_gateway.stores import open_store, sqlite_url
from a2a_gateway.testing.serving import serve_app
from tests.peers.added import Added
from tests.stores.ledger_bench import Bench, SteppedClock

pytestmark = pytest.mark.anyio

DAY_S, HOUR_S = 86_400, 3_600
AGENT = "box/openhands_coder"
ENDED = {
    "id": "far-run",
    "state": "finished",
    "turns": 3,
    "descendants": 2,
    "tokens": {"prompt": 100, "completion": 10},
    "cost": {"tree": "0.001200", "complete": True},
}
NONE_OF_THAT_NAME = {"object": "list", "data": []}
PRESUMED, KNOWN, NOTHING = (10_000, False), (1_200, True), (0, True)
"""What a run of which all was set aside has cost, and whether that is all."""


@dataclass
class RemotePeer:
    """A peer as it is asked about runs: `sent` are its answers, by path."""

    sent: Mapping[str, object]
    asked: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix("/v1")
        self.asked.append(f"{scope['method']} {path}")
        sent = {"/models": {"data": [{"id": "openhands_coder"}]}, **self.sent}
        answer = Response(json.dumps(sent[path])) if path in sent else Response(status_code=404)
        await answer(scope, receive, send)


@asynccontextmanager
async def restarted_gateway(
    home: Path, remote_peer: RemotePeer, remote_run_id: str | None
) -> AsyncIterator[tuple[Bench, Reconciler]]:
    """Restart a gateway that was killed during a run on a peer."""
    clock = SteppedClock()
    async with open_store(sqlite_url(home / "gateway.db"), clock) as store, serve_app(remote_peer) as url:
        bench = Bench(store, clock, (await store.keys.create_key("laptop"))[0], "")
        await bench.running("near-run", agent=AGENT, budget_micro_usd=10_000)
        await store.ledger.escrow(RunId("near-run"))
        if remote_run_id is not None:
            await store.ledger.note_remote(RunId("near-run"), remote_run_id)
        await store.ledger.mark_lost()
        box = PeerSettings(id="box", base_url=f"{url}/v1", api_key=SecretStr("sk-box"))
        known_peers = KnownPeers(Settings(gateway_id="desk", peers=(box,)), Added())
        identity = Identity("desk", SigningKey.generate(), SystemClock(), {})
        async with PeerDirectory(known_peers, identity, refresh_s=600) as directory:
            yield bench, Reconciler(store.ledger, directory, clock, first_pause_s=0)


async def reconciled_cost(home: Path, remote_peer: RemotePeer, remote_run_id: str | None, *, age_s: float) -> tuple[int, bool]:
    """Return the cost of a run by its record, after the peer was asked."""
    async with restarted_gateway(home, remote_peer, remote_run_id) as (bench, reconciler):
        bench.clock.at += age_s
        await reconciler.reconcile()
        record: RunRecord | None = await bench.store.ledger.get_run(RunId("near-run"))
    assert record is not None
    return record.cost_tree_micro_usd, record.cost_complete


async def test_a_run_is_found_by_the_peers_own_id_of_it_however_long_the_peer_was_away(tmp_path: Path) -> None:
    remote_peer = RemotePeer({"/runs/far-run": ENDED, "/runs": NONE_OF_THAT_NAME})
    assert await reconciled_cost(tmp_path, remote_peer, "far-run", age_s=3 * DAY_S) == KNOWN
    assert remote_peer.asked == ["GET /models", "GET /runs/far-run"]


async def test_a_run_on_a_peer_without_a_known_id_is_found_by_its_idempotency_key(tmp_path: Path) -> None:
    assert await reconciled_cost(tmp_path, RemotePeer({"/runs": {"data": [ENDED]}}), None, age_s=60) == KNOWN


async def test_an_estimate_of_the_peer_is_booked_as_one_and_not_asked_for_again(tmp_path: Path) -> None:
    cut_short = {**ENDED, "state": "lost", "cost": {"tree": "0.000700", "complete": False, "pending": False}}
    remote_peer = RemotePeer({"/runs/far-run": cut_short})
    async with restarted_gateway(tmp_path, remote_peer, "far-run") as (bench, reconciler):
        for _ in range(2):
            await reconciler.reconcile()
        record: RunRecord | None = await bench.store.ledger.get_run(RunId("near-run"))
    assert record is not None
    assert (record.cost_tree_micro_usd, record.cost_complete) == (700, False)
    assert remote_peer.asked == ["GET /models", "GET /runs/far-run"]


@pytest.mark.parametrize(("age_s", "cost"), [(DAY_S - HOUR_S - 1, NOTHING), (DAY_S - HOUR_S, PRESUMED)])
async def test_a_request_that_no_peer_knows_has_cost_nothing_as_long_as_it_would_know(
    tmp_path: Path, age_s: float, cost: tuple[int, bool]
) -> None:
    assert await reconciled_cost(tmp_path, RemotePeer({"/runs": NONE_OF_THAT_NAME}), None, age_s=age_s) == cost


@pytest.mark.parametrize("sent", [{}, {"/runs/far-run": "no run"}, {"/runs/far-run": {**ENDED, "cost": {"tree": "much"}}}])
async def test_what_a_peer_does_not_send_stays_as_it_was_presumed(tmp_path: Path, sent: Mapping[str, object]) -> None:
    assert await reconciled_cost(tmp_path, RemotePeer({"/runs": NONE_OF_THAT_NAME, **sent}), "far-run", age_s=60) == PRESUMED


async def test_a_run_that_still_works_for_nobody_is_told_to_end(tmp_path: Path) -> None:
    remote_peer = RemotePeer({"/runs/far-run": {**ENDED, "state": "running"}, "/runs/far-run/cancel": ENDED})
    assert await reconciled_cost(tmp_path, remote_peer, "far-run", age_s=60) == PRESUMED
    assert remote_peer.asked[1:] == ["GET /runs/far-run", "POST /runs/far-run/cancel"]
