"""What raises the errors of peers, of grants, and of the delegation tool."""

from pathlib import Path
from typing import Any, cast

import jwt

from a2a_gateway.peer_settings import PeerSettings
from a2a_gateway.peers.breaker import TOLERATED, Breaker
from a2a_gateway.peers.grant import Signer, Verifier, decode_token, encode_grant, read_label
from a2a_gateway.peers.grant_verifier import fetch_keys
from a2a_gateway.peers.models_list import parse_models
from a2a_gateway.peers.outcomes import budget_outcome, deadline_outcome, outcome_of
from a2a_gateway.peers.peer import Peer
from a2a_gateway.peers.signing_key import SigningKey
from a2a_gateway.runs.events import Failed, Limited, Outcome
from a2a_gateway.runs.model import Grant, RunId
from a2a_gateway.runs.ports import Hold
from delegate_tool import DelegationTool, adelegate, delegate
from delegate_tool.connection import ToolConnection
from delegate_tool.executor import DelegationExecutor, Delegator
from delegate_tool.protocol.context import DelegationBinding
from delegate_tool.protocol.limits import LimitPolicy
from delegate_tool.protocol.result import DelegationResult, DelegationStatus
from delegate_tool.remaining import Allowance
from delegate_tool.remote.chunk import parse_chunk
from delegate_tool.remote.sse import MAX_EVENT_BYTES, EventDecoder, ServerSentEvent
from delegate_tool.schema import DelegationAction
from tests.error_texts.texts import Case

_NOW = 1_700_000_000.0
_KEY = SigningKey.generate()
_SIGNER = Signer("EdDSA", _KEY.private, _KEY.kid)
_POLICY = LimitPolicy(3, 5, 20, 30.0, 100, 500_000, frozenset({"openhands_coder"}))
_GRANT = Grant("desk", "run-1", "tree-1", "only-once", _NOW + 60, "openhands_coder", 1, _POLICY)
_ESCROW = Hold("h", RunId("r"), reserved_micro_usd=500, budget_micro_usd=500, left_micro_usd=500, max_output_tokens=20)


def _error_of(outcome: Outcome) -> Exception:
    assert isinstance(outcome, Failed | Limited)
    return outcome.error


def peer_answer(code: str, message: str | None = None) -> Case:
    """Make a case of a peer that answers with an error."""
    result = DelegationResult(DelegationStatus.FAILED, error_code=code, error_message=message)
    return lambda _: _error_of(outcome_of(result, "box", ""))


def _resting_peer(_: Path) -> object:
    """Send a run to a peer that has failed so often that it gets no requests for a while."""
    breaker, unused = Breaker(lambda: 0.0), cast("Any", None)
    for _number in range(TOLERATED):
        breaker.record_failure()
    Peer(PeerSettings(id="flaky", base_url="http://x"), unused, unused, breaker, unlisted=None).require()
    return None


def refusal_of_tool(**given: Any) -> Case:
    """Make a case of a delegation that the tool refuses without a request."""

    def case(_: Path) -> object:
        delegator = Delegator(frozenset({"openhands_a", "openhands_b"}), "parent", depth=1)
        allowance = Allowance(DelegationBinding("http://gateway", "token", "parent", "openhands_lead", **left))
        executor = DelegationExecutor(cast("ToolConnection", None), delegator, allowance)
        return executor(DelegationAction(**{"agent": "openhands_a", "task": "Do it.", **given}))

    left = {"depth_left": given.pop("depth_left", 1)}
    return case


def with_claims(header: dict[str, object] | None = None, /, **claims: object) -> Case:
    """Make a case of a grant with these claims, signed by the right key."""

    def case(_: Path) -> object:
        token = encode_grant(_GRANT, audience="box", signer=_SIGNER, now=_NOW)
        all_claims = jwt.decode(token, options={"verify_signature": False}) | claims
        headers = {"typ": "a2a-grant+jwt", **(header or {})}
        forged = jwt.encode(all_claims, _KEY.private, algorithm="EdDSA", headers=headers)
        return decode_token(forged, audience="box", verifier=Verifier("EdDSA", _KEY.private.public_key()), now=_NOW)

    return case


def _endless_event(_: Path) -> object:
    decoder = EventDecoder()
    for _number in range(3):
        list(decoder.feed(b"x" * MAX_EVENT_BYTES))
    return None


async def _blocking_in_a_loop(_: Path) -> object:
    return delegate("openhands_a", "t", base_url="http://127.0.0.1:1/v1", api_key="key")


async def _without_an_endpoint(_: Path) -> object:
    return await adelegate("openhands_a", "t", base_url="", api_key="key")


def _delegation(**given: Any) -> Case:
    options = {"task": "t", "base_url": "http://127.0.0.1:1/v1", "api_key": "key", **given}
    return lambda _: adelegate("openhands_a", **options)


async def _unreachable(_: Path) -> object:
    return (await adelegate("openhands_a", "t", base_url="http://127.0.0.1:1/v1", api_key="key")).raise_for_status()


CASES: dict[str, Case] = {
    # What peers answer
    "peer_unavailable: it cannot be reached": peer_answer("unreachable"),
    "peer_unavailable: it is full": peer_answer("capacity_exceeded", "Full."),
    "peer_unavailable: it broke off": peer_answer("stream_broken"),
    "peer_rejected: its answer cannot be read": peer_answer("malformed_response"),
    "peer_rejected: it refused": peer_answer("agent_not_allowed", "Not here."),
    "llm_rate_limited: by the peer's provider": peer_answer("llm_rate_limited", "Slow down."),
    "agent_stuck: at the peer": peer_answer("agent_stuck", "Stuck."),
    "budget_exceeded: at the peer": lambda _: _error_of(
        outcome_of(DelegationResult(DelegationStatus.PARTIAL, stop_reason="budget_exceeded"), "box", "")
    ),
    "budget_exceeded: it cut the answer of a peer": lambda _: _error_of(budget_outcome("", _ESCROW)),
    "deadline_exceeded: of a run on a peer": lambda _: _error_of(deadline_outcome("", 5)),
    "peer_unavailable: it keeps failing": _resting_peer,
    "ValueError: a list of models that is none": lambda _: parse_models({}),
    # Grants
    "invalid_api_key: a token that cannot be read": lambda _: read_label("x"),
    "invalid_api_key: a token that is no grant": with_claims({"typ": "JWT"}),
    "invalid_api_key: an expired grant": with_claims(exp=_NOW - 1),
    "invalid_api_key: a grant from the future": with_claims(iat=_NOW + 61),
    "invalid_api_key: a grant that is good for too long": with_claims(exp=_NOW + 8 * 86_400),
    "invalid_api_key: a grant for another gateway": with_claims(aud="elsewhere"),
    "invalid_api_key: a grant with a claim that cannot be": with_claims(depth=-1),
    "peer_unavailable: no keys at its URL": lambda _: fetch_keys("no url"),
    # The delegation tool
    "EndpointMissing: no URL": _without_an_endpoint,
    "EndpointMissing: no key": _delegation(api_key=" "),
    "EndpointMissing: a key that no header can hold": _delegation(api_key="a\nb"),
    "EndpointMissing: a URL without a scheme": _delegation(base_url="127.0.0.1:1/v1"),
    "EndpointMissing: a URL that is none": _delegation(base_url="http://a:b/v1"),
    "delegation_depth_exceeded: the tool of the deepest run": refusal_of_tool(depth_left=0),
    "agent_not_listed: the tool's agent": refusal_of_tool(agent="openhands_c"),
    "invalid_request_error: the tool's task is empty": refusal_of_tool(task=" "),
    "invalid_request_error: the tool's budget is 0": refusal_of_tool(budget_usd="0.00"),
    "invalid_request_error: the tool's time is 0": refusal_of_tool(timeout_s=0),
    "invalid_request_error: the tool's budget is no amount": refusal_of_tool(budget_usd="1 dollar"),
    "invalid_request_error: the tool's conversation is no id": refusal_of_tool(conversation_id="the first one"),
    "RuntimeError: the blocking form in an event loop": _blocking_in_a_loop,
    "ContextError: a budget that is no amount": _delegation(budget_usd="lots"),
    "ContextError: an empty task": _delegation(task=" "),
    "ContextError: a response format that is none": _delegation(response_format=7),
    "DelegationError: an endpoint that is unreachable": _unreachable,
    "DelegationError: a partial answer": lambda _: DelegationResult(
        DelegationStatus.PARTIAL, "half", stop_reason="budget_exceeded"
    ).raise_for_status(),
    "TypeError: a parameter that the tool does not have": lambda _: DelegationTool.create(cast("Any", None), budget="1"),
    "ValueError: an event without an end": _endless_event,
    "ValueError: a chunk that is not JSON": lambda _: parse_chunk(ServerSentEvent("", b"{")),
}
