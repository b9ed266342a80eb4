"""Late truth: what runs on peers have cost, asked of the peers once they can be asked again.

A crash, here or there, leaves runs whose cost nobody here knows. The peer's ledger does, and the run's id, which is the
idempotency key of the request that the peer got, finds it there.
"""

import asyncio
from typing import Final

import httpx
import openai
import structlog

from a2a_gateway.errors import StoreError
from a2a_gateway.peers.directory import Peer, PeerDirectory
from a2a_gateway.runs.model import RunRecord, TokenUsage
from a2a_gateway.runs.ports import Charge, Hold, Ledger
from delegate_tool.usage import find_run

log = structlog.get_logger(__name__)

_ASK_WITHIN_S: Final = 5.0


async def reconcile_often(ledger: Ledger, directory: PeerDirectory, *, every_s: float) -> None:
    """Ask again and again, until cancelled."""
    while True:
        try:
            await reconcile(ledger, directory)
        except StoreError as error:
            log.warning("reconciliation_failed", code=error.code)
        await asyncio.sleep(every_s)


async def reconcile(ledger: Ledger, directory: PeerDirectory) -> None:
    """Correct the cost of every run whose peer can tell it by now."""
    for run, hold in await ledger.unreconciled():
        peer = directory.find(run.agent)
        charge = None if peer is None else await _ask(peer, run, hold)
        if charge is not None:
            await ledger.settle(hold, charge)
            log.info("run_reconciled", run_id=run.id, micro_usd=charge.cost_micro_usd)


async def _ask(peer: Peer, run: RunRecord, hold: Hold) -> Charge | None:
    """What a run has cost, as its peer says; None while it does not answer, or is still at it."""
    client = peer.client.with_options(max_retries=0, timeout=_ASK_WITHIN_S)
    try:
        told = await client.get("/runs", cast_to=object, options={"params": {"idempotency_key": run.id}})
    except (openai.APIError, httpx.HTTPError, ValueError):
        return None
    found = find_run(told)
    if found is None:
        return None
    if not found.is_known:
        return Charge(turns=0)  # the request never arrived
    if found.is_live or found.report is None or found.report.cost_micro_usd is None:
        return None
    report, most = found.report, run.limits.budget_micro_usd
    cost = found.report.cost_micro_usd
    paid = cost if most is None else min(cost, most)
    usage = TokenUsage(report.tokens.prompt, report.tokens.completion)
    return Charge(usage, paid, report.cost_complete and paid == cost, turns=report.turns or 0, runs=max(0, report.runs - 1))
