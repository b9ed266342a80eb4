"""Ask peers, all at once, for their parts of a tree of runs. A peer that does not answer leaves a gap with a reason."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import quote

from pydantic import BaseModel, Field, StringConstraints, ValidationError

from a2a_gateway.peers.directory import PeerDirectory
from a2a_gateway.peers.peer import NoAnswer, Peer
from a2a_gateway.runs.model import PeerReport, RunId, RunRecord, TokenUsage
from delegate_tool.protocol.money import parse_usd

_ASK_WITHIN_S: Final = 2.0
_LEFT_TO_THE_NEXT: Final = 0.8
"""Share of its own time that a gateway gives to the peers behind it."""
_MOST_RUNS: Final = 1000

type ShortText = Annotated[str, StringConstraints(max_length=300)]
type UsdText = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,6})?$")]


class RemoteTokens(BaseModel):
    prompt: int = Field(ge=0)
    completion: int = Field(ge=0)
    cached: int = Field(default=0, ge=0)
    reasoning: int = Field(default=0, ge=0)


class RemoteCost(BaseModel):
    """Decimal amounts of USD."""

    self: UsdText
    tree: UsdText
    reserved: UsdText = "0.000000"
    currency: ShortText = "USD"
    complete: bool


class RemoteLimits(BaseModel):
    max_depth: int
    budget_usd: ShortText | None = None


class RemoteRun(BaseModel):
    """A run as a peer reports it. Members that are not declared here are not passed on."""

    id: ShortText
    agent: ShortText
    gateway: ShortText | None = None
    depth: int
    state: ShortText
    stop_reason: ShortText | None = None
    error_code: ShortText | None = None
    remote_run_id: ShortText | None = None
    created_at: ShortText
    started_at: ShortText | None = None
    ended_at: ShortText | None = None
    seconds: float = Field(ge=0, allow_inf_nan=False)
    turns: int = Field(ge=0)
    tokens: RemoteTokens
    cost: RemoteCost
    descendants: int
    limits: RemoteLimits
    unreachable: ShortText | None = None
    children: tuple["RemoteRun", ...] = ()


@dataclass(frozen=True, slots=True)
class RemoteTrees:
    """Asks peers for their parts of a tree."""

    directory: PeerDirectory

    async def parts_of(self, records: Sequence[RunRecord], *, within_s: float | None = None) -> Mapping[RunId, PeerReport | str]:
        """Ask the peers for their parts. A part that is missing is replaced by a sentence with the reason.

        Args:
            records: all runs of the tree, also those that are not on peers.
            within_s: the time that the client allows; at most two seconds are used.
        """
        most_s = min(_ASK_WITHIN_S, within_s or _ASK_WITHIN_S)
        found = [(record, self.directory.find(record.agent)) for record in records if "/" in record.agent]
        return dict(
            await asyncio.gather(
                *(_ask(peer, record, most_s) for record, peer in found if peer is not None and not peer.settings.opaque)
            )
        )


async def _ask(peer: Peer, record: RunRecord, within_s: float) -> tuple[RunId, PeerReport | str]:
    if record.remote_run_id is None:
        return record.id, f"The peer {peer.id} has not sent its own id of this run."
    if peer.problem is not None:
        return record.id, f"The peer {peer.id} is down: {peer.problem}."
    path, params = f"/runs/{quote(record.remote_run_id, safe='')}/tree", {"within_s": f"{within_s * _LEFT_TO_THE_NEXT:.3f}"}
    try:
        run = RemoteRun.model_validate(await peer.ask("GET", path, within_s=within_s, params=params))
    except NoAnswer as error:
        return record.id, f"The peer {peer.id} does not report its part: {error}."
    except ValidationError:
        return record.id, f"The peer {peer.id} reports its part in a form that cannot be read."
    if _size(run) > _MOST_RUNS:
        return record.id, f"The peer {peer.id} reports more than {_MOST_RUNS} runs."
    return record.id, _part(run)


def _part(run: RemoteRun) -> PeerReport:
    return PeerReport(
        gateway=run.gateway,
        usage=TokenUsage(run.tokens.prompt, run.tokens.completion, run.tokens.cached, run.tokens.reasoning),
        turns=run.turns,
        cost_below_micro_usd=sum(parse_usd(child.cost.tree) for child in run.children),
        children=tuple(child.model_dump(mode="json") for child in run.children),
    )


def _size(run: RemoteRun) -> int:
    return 1 + sum(map(_size, run.children))
