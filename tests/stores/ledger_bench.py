"""An open store with a key in it, and short ways to open runs and make calls."""

from dataclasses import dataclass, replace

from a2a_gateway.runs.limits import Limits
from a2a_gateway.runs.model import ConversationId, KeyRecord, RunId, RunRecord, TokenUsage
from a2a_gateway.runs.ports import Charge, Hold, RunProposal
from a2a_gateway.stores import Store
from delegate_tool.protocol.limits import LimitPolicy
from tests.stores.quotes import FREE

NOW = 1_700_000_000.0


@dataclass
class SteppedClock:
    at: float = NOW

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        return self.now()


@dataclass(frozen=True)
class Bench:
    """An open store with a key in it."""

    store: Store
    clock: SteppedClock
    key: KeyRecord
    url: str

    async def open(self, run_id: str, parent_id: str | None = None, agent: str = "openhands_a", **limits: object) -> RunRecord:
        policy = LimitPolicy(**limits)  # type: ignore[arg-type]  # fields of LimitPolicy
        return await self.propose(run_id, parent_id=RunId(parent_id) if parent_id else None, agent=agent, policies=(policy,))

    async def propose(self, run_id: str, **changes: object) -> RunRecord:
        proposal = RunProposal(
            id=RunId(run_id),
            parent_id=None,
            key_id=self.key.id,
            agent="openhands_a",
            task_hash=f"task of {run_id}",
            conversation_id=ConversationId(f"c-{run_id}"),
            defaults=Limits(),
        )
        return await self.store.ledger.open_run(replace(proposal, **changes))  # type: ignore[arg-type]  # its fields

    async def running(self, run_id: str, parent_id: str | None = None, agent: str = "openhands_a", **limits: object) -> RunRecord:
        await self.open(run_id, parent_id, agent, **limits)
        return await self.store.ledger.start_run(RunId(run_id))

    async def turn(self, run_id: str, usage: TokenUsage, cost: int | None) -> Hold:
        hold = await self.store.ledger.reserve(RunId(run_id), FREE)
        await self.store.ledger.settle(hold, Charge(usage, cost))
        return hold
