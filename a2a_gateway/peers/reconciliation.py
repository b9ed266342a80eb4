"""Reconciliation: ask peers for the final cost of runs whose outcome was lost.

A crash of this gateway, of a peer or of a gateway behind it leaves runs whose cost is only an estimate here. The peer's ledger
has the final cost. The run is found there by the peer's own id of it, or else by its id here, which was the idempotency key of
the request to the peer.

| the peer's answer | what happens |
|---|---|
| no answer | ask again after a longer pause |
| unknown key | the request never arrived: charge nothing, if the peer must still know its keys of that age |
| the run is live | cancel it, and ask again later |
| the run has ended | replace the estimate by its cost; if that is not final, ask again later |
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final
from urllib.parse import quote

from a2a_gateway.errors import StoreError
from a2a_gateway.peers.directory import PeerDirectory
from a2a_gateway.peers.peer import NoAnswer, Peer
from a2a_gateway.runs.event_log import get_log
from a2a_gateway.runs.model import RunRecord, TokenUsage
from a2a_gateway.runs.ports import Charge, Clock, Hold, Ledger
from a2a_gateway.settings import LEAST_KEPT_S
from delegate_tool.protocol.fields import Header
from delegate_tool.protocol.report import FoundRun, RunReport, read_known_run, read_run_list

log = get_log(__name__)

_ASK_WITHIN_S: Final = 5.0
_LONGEST_PAUSE_S: Final = 3600.0
_KEYS_ARE_KEPT_S: Final = LEAST_KEPT_S - 3_600.0
"""How long an unknown idempotency key proves that the request was never executed. Every gateway keeps keys for a day (protocol);
the hour is for clocks that differ or are set."""


class Reconciler:
    """Asks peers for the final cost of runs: at once when a peer is up, and then after growing pauses.

    Args:
        clock: the clock of the ledger.
        first_pause_s: the pause before a peer is asked again for the same run.
        now: returns seconds, from any origin.
    """

    def __init__(
        self,
        ledger: Ledger,
        directory: PeerDirectory,
        clock: Clock,
        *,
        first_pause_s: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._directory = directory
        self._clock = clock
        self._first_pause_s = first_pause_s
        self._now = now
        self._asked: dict[str, tuple[float, float]] = {}

    async def reconcile_often(self) -> None:
        """Reconcile periodically, until cancelled."""
        while True:
            try:
                await self.reconcile()
            except StoreError as error:
                log.warning("reconciliation_failed", code=error.code)
            await asyncio.sleep(self._first_pause_s)

    async def reconcile(self) -> None:
        """Correct the cost of every run whose peer reports it by now."""
        waiting = await self._ledger.list_unreconciled()
        self._asked = {hold.id: self._asked[hold.id] for _, hold in waiting if hold.id in self._asked}
        for run, hold in waiting:
            peer = self._directory.find(run.agent)
            if peer is None or peer.settings.opaque or peer.problem is not None or not self._is_due(hold):
                continue
            charge = await _ask(peer, run, age_s=self._clock.now() - run.created_at)
            if charge is not None:
                await self._ledger.settle(hold, charge)
                log.info("run_reconciled", run_id=run.id, micro_usd=charge.cost_micro_usd, final=charge.final)

    def _is_due(self, hold: Hold) -> bool:
        """Return whether to ask for a run now. If so, schedule the next time after a longer pause."""
        due_at, pause_s = self._asked.get(hold.id, (0.0, self._first_pause_s))
        if self._now() < due_at:
            return False
        self._asked[hold.id] = (self._now() + pause_s, min(2 * pause_s, _LONGEST_PAUSE_S))
        return True


async def _ask(peer: Peer, run: RunRecord, *, age_s: float) -> Charge | None:
    """Ask a peer what a run has cost. Return None if it does not answer, or if the run was live and is cancelled now."""
    path = None if run.remote_run_id is None else f"/runs/{quote(run.remote_run_id, safe='')}"
    try:
        if path is not None:
            found: FoundRun | None = read_known_run(await peer.ask("GET", path, within_s=_ASK_WITHIN_S))
        else:
            found = read_run_list(await peer.ask("GET", "/runs", within_s=_ASK_WITHIN_S, params={"idempotency_key": run.id}))
    except NoAnswer:
        return None
    if found is None:
        return None
    if not found.is_known:
        return Charge(turns=0) if age_s < _KEYS_ARE_KEPT_S else None  # the request never arrived, or the run is too old
    if found.is_live:
        with suppress(NoAnswer):  # no caller waits for this run any more
            headers: dict[str, str] = {Header.IDEMPOTENCY_KEY: run.id}
            await peer.ask("POST", f"{path or '/runs'}/cancel", within_s=_ASK_WITHIN_S, headers=headers)
        return None
    return None if found.report is None else _late_charge(found.report, run)


def _late_charge(report: RunReport, run: RunRecord) -> Charge | None:
    """Return the charge that brings a run's record to what its peer reports.

    The cost replaces the estimate; tokens, turns and runs are those that have not been charged yet.
    """
    reported, budget = report.cost_micro_usd, run.limits.budget_micro_usd
    if reported is None:
        return None
    paid = reported if budget is None else min(reported, budget)
    tokens, charged = report.tree_tokens, run.usage
    usage = TokenUsage(max(0, tokens.prompt - charged.prompt), max(0, tokens.completion - charged.completion))
    return Charge(
        usage,
        paid,
        report.cost_complete and paid == reported,
        turns=max(0, (report.turns or 0) - run.turns),
        runs=max(0, report.runs - 1 - run.descendants),
        final=paid != reported or report.cost_final,
    )
