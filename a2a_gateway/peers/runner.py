"""Execute runs of peers' agents: forward each as a streamed chat completion, and settle what it cost. Implements `Runner`.

A forwarded run is a run of this gateway like any other: opened, bounded and paid in its own ledger. The peer executes it as it
likes, within the reserved money and the limits that are sent. The steps of a forwarded run, in this order:

| step | money | if it fails |
|---|---|---|
| check that the peer is up (`Peer.require`) | | the run fails, nothing was sent |
| reserve: an escrow, or a hold for one call of a plain endpoint | reserved | the run fails, nothing was sent |
| send, with retries, a new credential for each attempt | | charged only if an attempt may have reached the peer |
| read the answer, pass on its text | | charged what the peer reports, else unknown |
| time over, or cancelled: cancel the run at the peer | | charged what the peer reports, else unknown |
| settle the hold | settled | always done, before the last event |

An unknown cost of a gateway is asked for later by `reconciliation`. A plain endpoint has no runs to cancel or ask for; `pricing`
has what it is charged.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Final

import anyio
import httpx

from a2a_gateway.errors import ModelUnpriced
from a2a_gateway.peers.connection import Unreadable
from a2a_gateway.peers.directory import PeerDirectory
from a2a_gateway.peers.forwarded_request import limits_for_peer, render_body
from a2a_gateway.peers.outcomes import (
    UNKNOWN,
    budget_outcome,
    charge_of,
    deadline_outcome,
    downgrade_denial,
    has_failed,
    outcome_of,
)
from a2a_gateway.peers.peer import Peer
from a2a_gateway.peers.pricing import Terms, charge_plain, terms_of
from a2a_gateway.peers.prompt_size import measure_prompt
from a2a_gateway.peers.send_retries import ATTEMPTS, send_with_retries
from a2a_gateway.runs.event_log import get_log
from a2a_gateway.runs.events import (
    Cancelled,
    ContentDelta,
    Limited,
    OptionsIgnored,
    Outcome,
    ReasoningDelta,
    RunEnded,
    RunnerEvent,
)
from a2a_gateway.runs.model import AdmittedRun, RunId
from a2a_gateway.runs.ports import Charge, Hold, Meter
from delegate_tool.protocol.context import DelegationContext, encode_headers
from delegate_tool.protocol.fields import Header
from delegate_tool.protocol.result import DelegationResult, DelegationStatus
from delegate_tool.remote.call import MIN_TIMEOUT_S, ChunkStream, RemoteCall
from delegate_tool.remote.failures import TooLarge
from delegate_tool.remote.reply import MAX_ANSWER_BYTES, Delta, Reply

log = get_log(__name__)

_MAX_SILENCE_S: Final = 90.0
"""A gateway sends a heartbeat every 15 s while an agent works, so a longer silence means a broken connection."""
_MOST_NAMES, _NAME_CHARS = 100, 64


class PeerRunner:
    """Runs agents of peers.

    Args:
        unpriced_usd_per_token: the nominal price of a token of unknown price at a plain endpoint.
        plain_retries: how often a request to a plain endpoint is retried, as a call to an LLM is. A request that its client marks
            as a retry is not: the client's attempts times these would be too many.
    """

    def __init__(
        self,
        directory: PeerDirectory,
        *,
        gateway_id: str,
        unpriced_usd_per_token: Decimal | None = None,
        plain_retries: int = ATTEMPTS - 1,
    ) -> None:
        self._directory = directory
        self._gateway_id = gateway_id
        self._unpriced_usd_per_token = unpriced_usd_per_token
        self._plain_retries = plain_retries
        self._live: dict[RunId, _Forwarding] = {}

    async def run(self, run: AdmittedRun, meter: Meter) -> AsyncGenerator[RunnerEvent]:
        """See `Runner.run`."""
        events: asyncio.Queue[RunnerEvent | None] = asyncio.Queue()
        peer = self._directory.peer(run.peer or "")
        async with peer.calling():
            terms = self._terms(run, peer) if peer.settings.opaque else None
            forwarding = _Forwarding(run, meter, peer, terms, self._gateway_id, self._attempts(run, terms), events.put_nowait)
            self._live[run.record.id] = forwarding
            forwarding.task = asyncio.create_task(forwarding.drive(), name=f"run {run.record.id} at {peer.id}")
            forwarding.task.add_done_callback(lambda _: events.put_nowait(None))
            try:
                while (event := await events.get()) is not None:
                    yield event
                if forwarding.task.cancelled():  # before anything was sent
                    yield RunEnded(Cancelled(), run.transcript)
                else:
                    forwarding.task.result()  # raises the run's failure, if there is one
            finally:
                self._live.pop(run.record.id, None)
                forwarding.cancel()
                with anyio.CancelScope(shield=True):
                    await asyncio.wait({forwarding.task})

    async def cancel(self, run_id: RunId) -> None:
        """See `Runner.cancel`."""
        forwarding = self._live.get(run_id)
        if forwarding is not None:
            forwarding.cancel()

    def _attempts(self, run: AdmittedRun, terms: Terms | None) -> int:
        if terms is None:
            return ATTEMPTS
        return 1 if run.is_marked_retry else 1 + self._plain_retries

    def _terms(self, run: AdmittedRun, peer: Peer) -> Terms:
        return terms_of(
            peer.settings,
            run.profile,
            measure_prompt(run),
            listed=peer.listed_prices.get(run.profile),
            unpriced=self._unpriced_usd_per_token,
            asked_tokens=run.sampling.max_output_tokens,
        )


class _Forwarding:
    """One run at a peer. `terms` are how a plain endpoint is paid; None for another gateway."""

    task: asyncio.Task[None]

    def __init__(
        self,
        run: AdmittedRun,
        meter: Meter,
        peer: Peer,
        terms: Terms | None,
        gateway_id: str,
        attempts: int,
        emit: Callable[[RunnerEvent], None],
    ) -> None:
        self._run = run
        self._meter = meter
        self._peer = peer
        self._terms = terms
        self._gateway_id = gateway_id
        self._emit = emit
        self._attempts = attempts
        self._presented: list[str] = []
        max_silence_s = None if peer.settings.opaque else _MAX_SILENCE_S
        self._call = RemoteCall(peer.client, run.record.id, Reply(peer.secrets()), max_silence_s=max_silence_s)
        self._is_cancelled = False

    def cancel(self) -> None:
        if not self._is_cancelled and not self.task.done():
            self._is_cancelled = True
            self.task.cancel()

    async def drive(self) -> None:
        """Run to the end. The hold is settled before the last event, which is `RunEnded`."""
        self._peer.require()
        hold = await self._reserve()
        charge = UNKNOWN
        try:
            outcome, charge = await self._forward(hold)
        except asyncio.CancelledError:
            outcome = Cancelled(self._call.reply.text)
            with anyio.CancelScope(shield=True):
                charge = self._charge(await self._cancel_there(), hold)
        finally:
            with anyio.CancelScope(shield=True):
                await self._meter.settle(hold, charge)
        self._emit(RunEnded(outcome, self._transcript()))

    async def _reserve(self) -> Hold:
        """Reserve the money, and subtract from the run's time what it waited for other runs."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        if self._terms is None or self._terms.must_escrow:
            hold = await self._meter.escrow()
        else:
            hold = await self._reserve_call(self._terms)
        left_s = self._run.timeout_s - (loop.time() - begun)
        self._run = replace(self._run, timeout_s=max(left_s, MIN_TIMEOUT_S))
        return hold

    async def _reserve_call(self, terms: Terms) -> Hold:
        try:
            hold = await self._meter.reserve(terms.quote())
        except ModelUnpriced as error:
            raise ModelUnpriced(
                f"A budget is in force, and no price is known for {self._run.profile[:100]} at the peer {self._peer.id}, so "
                "the run could exceed it. Give the peer prices (input_usd_per_mtok, output_usd_per_mtok), set "
                "reports_cost if it reports the cost of each answer, set a nominal price for tokens of unknown price "
                "(A2A_UNPRICED_USD_PER_MTOK), or allow any cost (A2A_BUDGET_USD=none).",
                details=error.details,
            ) from None
        self._meter.follow(hold, lambda: terms.used_micro_usd(self._call.reply.answer_bytes))
        return hold

    async def _forward(self, hold: Hold) -> tuple[Outcome, Charge]:
        run, call, breaker = self._run, self._call, self._peer.breaker
        conversation_id = _conversation_of(run.transcript)
        context = limits_for_peer(run, hold, gateway_id=self._gateway_id, peer_id=self._peer.id, conversation_id=conversation_id)
        body = render_body(run, run.profile, max_output_tokens=self._bound_output(hold))

        async def send() -> ChunkStream:
            return await send_with_retries(
                lambda: call.send(body, self._make_headers(context)),
                deduplicates=not self._peer.settings.opaque,
                attempts=self._attempts,
            )

        breaker.begin()
        try:
            failure = await call.run(send, timeout_s=run.timeout_s, on_response=self._note_response, on_delta=self._emit_delta)
        except TimeoutError:
            if not call.has_begun:
                breaker.record_failure()
            result = await self._cancel_there()
            return deadline_outcome(call.reply.text, run.timeout_s), self._charge(result, hold)
        if failure is not None and call.may_have_begun:
            failure = downgrade_denial(failure)
        result = call.reply.conclude(failure)
        if has_failed(result):
            breaker.record_failure()
        else:
            breaker.record_success()
        return self._outcome(result, hold), self._charge(result, hold)

    def _outcome(self, result: DelegationResult, hold: Hold) -> Outcome:
        reply = self._call.reply
        if result.error_code == TooLarge.code and reply.max_answer_bytes < MAX_ANSWER_BYTES:
            result = replace(result, status=DelegationStatus.PARTIAL, stop_reason="length")  # cut off here at its bound
        outcome = outcome_of(result, self._peer.id, reply.text)
        if isinstance(outcome, Limited) and self._terms is not None and self._terms.is_shortened(hold):
            return budget_outcome(outcome.text, hold)
        return outcome

    def _bound_output(self, hold: Hold) -> int | None:
        """Bound the answer of a plain endpoint by its hold. Return the most output tokens to ask for; None if unbounded."""
        if self._terms is None:
            return None
        self._call.reply.max_answer_bytes = self._terms.max_answer_bytes(hold, MAX_ANSWER_BYTES)
        return self._terms.output_bound(hold)

    def _make_headers(self, context: DelegationContext) -> Mapping[str, str]:
        """Make the headers of one attempt, with a credential of its own."""
        authorization = self._present(self._peer.credential.for_run(self._run, context))
        return authorization if self._peer.settings.opaque else {**encode_headers(context), **authorization}

    def _present(self, authorization: str) -> Mapping[str, str]:
        """Return the header that presents a credential, and mask the credential in all that the peer returns."""
        self._presented.append(authorization)
        self._call.reply.secrets = self._peer.secrets(*self._presented)
        return {"Authorization": authorization}

    async def _note_response(self, response: httpx.Response) -> None:
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            raise Unreadable("it is not a stream of events")
        self._peer.breaker.record_success()
        mask = self._call.reply.secrets.mask
        if remote_run_id := response.headers.get(Header.RUN_ID):
            await self._meter.note_remote(mask(remote_run_id)[:64])
        if ignored := response.headers.get(Header.IGNORED):
            names = mask(ignored).split(", ")
            self._emit(OptionsIgnored(tuple(name[:_NAME_CHARS] for name in names[:_MOST_NAMES])))

    def _emit_delta(self, delta: Delta) -> None:
        if delta.reasoning:
            self._emit(ReasoningDelta(delta.reasoning))
        if delta.content:
            self._emit(ContentDelta(delta.content))

    async def _cancel_there(self) -> DelegationResult:
        """Cancel the run at the peer. Return what it had cost, as far as the peer reports it."""
        if self._peer.settings.opaque:
            return self._call.reply.conclude(None)
        return await self._call.cancel(self._present(self._peer.credential.to_ask()))

    def _charge(self, result: DelegationResult, hold: Hold) -> Charge:
        has_begun = self._call.has_begun or self._call.may_have_begun
        if self._terms is None:
            charge = charge_of(result, hold, has_begun=has_begun)
        else:
            answer_bytes = self._call.reply.answer_bytes
            charge = charge_plain(result, hold, self._terms, has_begun=has_begun, answer_bytes=answer_bytes)
        reported, paid = result.cost_micro_usd, charge.cost_micro_usd
        if reported is not None and paid is not None and paid < reported:
            names = {"peer": self._peer.id, "run_id": self._run.record.id}
            log.warning("peer_overrun", **names, reported_micro_usd=reported, paid_micro_usd=paid)
        return charge

    def _transcript(self) -> str:
        """Return the transcript that continues the conversation: the peer's id of it."""
        conversation_id = self._call.reply.conclude(None).conversation_id
        return json.dumps({"conversation_id": conversation_id}) if conversation_id else self._run.transcript


def _conversation_of(transcript: str) -> str | None:
    return str(json.loads(transcript)["conversation_id"]) if transcript else None
