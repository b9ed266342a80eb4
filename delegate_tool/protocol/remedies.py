"""What a person does about an error code. The remedies in `codes` address an agent, which can do its task itself.

Standard library only.
"""

from collections.abc import Mapping
from typing import Final

from delegate_tool.protocol.codes import remedy_of

_LATER: Final = "Try again later."
_OTHER_WORDS: Final = "Rephrase the task, or choose another agent."
_AGENTS: Final = "Call an agent that GET /v1/models lists for this key."
_GATEWAY_LOG: Final = "The gateway's log has the cause."
_PROFILE: Final = "Correct the agent's profile or LLM at the gateway, or choose another agent."

REMEDIES: Final[Mapping[str, str]] = {
    "llm_bad_request": _OTHER_WORDS,
    "context_length_exceeded": "Shorten the task or its context.",
    "content_filter": _OTHER_WORDS,
    "invalid_api_key": "Check api_key, or A2A_API_KEY.",
    "run_token_revoked": "Use a key: a run's token ends with its run.",
    "budget_exceeded": "Raise budget_usd, or the budget of the key or the agent.",
    "admission_refused": "Choose another agent.",
    "delegation_depth_exceeded": "Raise max_depth, here or in the gateway's settings.",
    "delegation_cycle_detected": "Let the agent do its task without delegating it to itself.",
    "delegation_runs_exhausted": "Raise max_runs, here or in the gateway's settings.",
    "agent_not_allowed": _AGENTS,
    "root_key_from_agent": "Call from outside the agents' terminals, or let the agent use its tool `delegate`.",
    "run_not_found": "Check the id: it must be a run of this key.",
    "conversation_not_found": "Leave conversation_id out, and repeat in the task what matters.",
    "model_not_found": _AGENTS,
    "conversation_busy": "Leave conversation_id out: that conversation waits for this call.",
    "request_too_large": "Shorten the task or its context.",
    "peer_rejected": "Choose another agent, or ask the operator of the peer.",
    "delegation_breadth_exceeded": "Raise max_breadth, or delegate fewer tasks at a time.",
    "llm_rate_limited": _LATER,
    "capacity_exceeded": _LATER,
    "run_cancelled": "Call it again if the answer is still needed.",
    "internal_error": _GATEWAY_LOG,
    "configuration_error": _PROFILE,
    "run_failed": _GATEWAY_LOG,
    "agent_error": _GATEWAY_LOG,
    "agent_stuck": _OTHER_WORDS,
    "max_turns_exceeded": "Raise max_turns, or ask for less at once.",
    "llm_auth_failed": "Correct the provider's key at the gateway.",
    "llm_not_found": _PROFILE,
    "llm_unavailable": _LATER,
    "peer_failed": "Choose another agent, or ask the operator of the peer.",
    "response_format_violated": "Ask for a simpler format, or choose a stronger agent.",
    "not_ready": _LATER,
    "store_unavailable": _LATER,
    "run_lost": "Check what was already done before you call it again.",
    "peer_unavailable": _LATER,
    "deadline_exceeded": "Raise timeout_s, or ask for less at once.",
    "gateway_loop_detected": "Choose an agent of the gateway itself.",
    "unreachable": "Check base_url (or A2A_BASE_URL), and that the gateway runs.",
    "timeout": _LATER,
    "stream_broken": _LATER,
    "stream_error": _OTHER_WORDS,
    "malformed_response": "Check base_url (or A2A_BASE_URL): it must be an OpenAI-compatible endpoint, usually ending in /v1.",
    "empty_answer": _OTHER_WORDS,
    "unanswered_tool_call": "Choose another agent.",
    "agent_not_listed": _AGENTS,
}
"""By code; only those whose remedy in `codes` does not suit a person."""

_FOREIGN: Final[Mapping[str, str]] = {
    "http_401": REMEDIES["invalid_api_key"],
    "http_404": "Check base_url (or A2A_BASE_URL), which usually ends in /v1, and the agent's name.",
}
"""For servers without codes of their own."""


def remedy_for_people(code: str) -> str:
    """Return what the author of a script can do, in one sentence; empty for an unknown code."""
    return REMEDIES.get(code) or _FOREIGN.get(code) or remedy_of(code)
