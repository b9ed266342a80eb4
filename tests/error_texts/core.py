"""What raises the errors of the core and of the chat wire: pure functions, no I/O."""

import json
from dataclasses import replace
from decimal import Decimal

from a2a_gateway.runs.admission import permit_turn
from a2a_gateway.runs.budget import Account, allot
from a2a_gateway.runs.capacity import Capacity
from a2a_gateway.runs.limits import Limits
from a2a_gateway.runs.model import CallQuote, RunId, RunState, SpendCaps
from a2a_gateway.wire.chat.request import parse_chat_request
from a2a_gateway.wire.sse import encode_event
from delegate_tool.protocol.limits import LimitPolicy
from delegate_tool.protocol.money import parse_usd
from tests.error_texts.texts import Case
from tests.runs.proposals import KEY, NOW, ROOT, admit_child, admit_root
from tests.wire.samples import body

_MICRO_USD = Decimal("0.000001")
_QUOTE = CallQuote(1_000, 16_000, _MICRO_USD, 2 * _MICRO_USD)


def _allot(spent: int = 0, held: int = 0, quote: CallQuote = _QUOTE) -> object:
    return allot(quote, [Account("run r", 10_000, spent, held, kept_back=500, own=True)], may_be_last=False)


def _parse(**fields: object) -> object:
    return parse_chat_request(body(**fields), {})


def _large_schema() -> dict[str, object]:
    schema = {"properties": {f"p{n}": {"type": "string"} for n in range(40_000)}}
    return {"type": "json_schema", "json_schema": {"name": "large", "schema": schema}}


async def _take_slot(capacity: Capacity, timeout_s: float) -> None:
    async with capacity.slot(RunId("run"), None, timeout_s=timeout_s):
        pass


CASES: dict[str, Case] = {
    # Admission
    "run_token_revoked: the parent has ended": lambda _: admit_child(parent=replace(ROOT, state=RunState.FINISHED)),
    "delegation_depth_exceeded: a child of the deepest run": lambda _: admit_child(parent=replace(ROOT, depth=3)),
    "delegation_cycle_detected: the same task above": lambda _: admit_child(
        parent=replace(ROOT, agent="openhands_coder", task_hash="write it")
    ),
    "delegation_runs_exhausted: all descendants are used": lambda _: admit_child(parent=replace(ROOT, descendants=50)),
    "agent_not_allowed: not among the parent's": lambda _: admit_child(
        parent=replace(ROOT, limits=Limits(allowed_agents=frozenset({"openhands_x"})))
    ),
    "delegation_breadth_exceeded: too many live children": lambda _: admit_child(live_siblings=5),
    "budget_exceeded: the parent's is spent": lambda _: admit_child(parent=replace(ROOT, cost_tree_micro_usd=10_000_001)),
    "budget_exceeded: the key's is spent": lambda _: admit_root(key=replace(KEY, caps=SpendCaps(5), spent_micro_usd=5)),
    "budget_exceeded: a budget of 0": lambda _: admit_root(LimitPolicy(budget_micro_usd=0)),
    "deadline_exceeded: no time is left for a child": lambda _: admit_child(parent=replace(ROOT, deadline_at=NOW)),
    "invalid_api_key: the key was revoked before admission": lambda _: admit_root(key=replace(KEY, revoked_at=NOW)),
    # The next turn
    "run_cancelled: a run above has ended": lambda _: permit_turn([replace(ROOT, state=RunState.FAILED), ROOT], key=KEY, now=NOW),
    "run_cancelled: the key was revoked": lambda _: permit_turn([ROOT], key=replace(KEY, revoked_at=NOW), now=NOW),
    "deadline_exceeded: the time is over": lambda _: permit_turn([replace(ROOT, deadline_at=NOW)], key=KEY, now=NOW),
    # One LLM call
    "model_unpriced: a budget without a price": lambda _: _allot(quote=CallQuote(10, 20)),
    "budget_exceeded: too little for one call": lambda _: _allot(spent=7_000),
    "budget_exceeded: used up": lambda _: _allot(spent=10_000),
    "budget_exceeded: held by calls under way": lambda _: _allot(held=9_000),
    # Capacity
    "capacity_exceeded: the queue is full": lambda _: _take_slot(Capacity(limit=0, queue_limit=0), 60),
    "capacity_exceeded: no slot in time": lambda _: _take_slot(Capacity(limit=0, queue_limit=1), 0.01),
    # Requests
    "invalid_request_error: not JSON": lambda _: parse_chat_request(b"{", {}),
    "invalid_request_error: not an object": lambda _: parse_chat_request(b"[]", {}),
    "invalid_request_error: a body of the Responses API": lambda _: parse_chat_request(
        json.dumps({"model": "m", "input": "hi"}).encode(), {}
    ),
    "invalid_request_error: a header that cannot be read": lambda _: parse_chat_request(body(), {"x-a2a-timeout": "soon"}),
    "invalid_request_error: a role that does not exist": lambda _: _parse(messages=[{"role": "king", "content": "x"}]),
    "invalid_request_error: a schema that is too large": lambda _: _parse(response_format=_large_schema()),
    "unsupported_parameter: several choices": lambda _: _parse(n=2),
    # Codecs
    "ValueError: an SSE event with a CR": lambda _: encode_event(b"a\rb", event=None, event_id=None),
    "ValueError: not an amount of money": lambda _: parse_usd("much"),
}
