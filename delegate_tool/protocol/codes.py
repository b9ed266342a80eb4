"""Every error code of the protocol, once: what it means, its HTTP status, whether to retry, and what to do instead.

`ERROR_CODES` are the codes that a gateway sends. `CLIENT_CODES` are those that a delegating client makes by itself, where an
endpoint sent none; an error response without a code becomes `http_<status>`. Codes of foreign servers may be in neither table:
their HTTP status decides then.

The gateway's exceptions, statuses, the remedies that agents read, what a gateway makes of a peer's error, and the documentation
derive from these rows. Standard library only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from delegate_tool.protocol.result import DelegationStatus


class Retry(StrEnum):
    """Whether the same request may succeed if it is sent again, as the documentation words it."""

    NO = "no"
    YES = "yes"
    BEFORE_RUN = "before the run has begun"


class FromPeer(StrEnum):
    """What a gateway reports to its caller when a run on a peer failed with a code."""

    SAME = "same"  # the code means the same wherever the run was executed
    NOT_EXECUTED = "not executed"  # the peer has executed nothing: `peer_unavailable`, retryable
    BROKEN_OFF = "broken off"  # the peer may have executed something: `peer_unavailable`, not retryable
    REJECTED = "rejected"  # the code concerns the gateway and its peer, not the caller: `peer_rejected`


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """A code that a gateway sends.

    Attributes:
        when: for the documentation, a phrase in Markdown.
        remedy: one sentence, addressed to the agent that delegated.
        ends_as: how a delegation ends that is answered with it; None if the HTTP status decides, see `delegation_status`.
    """

    code: str
    status: int
    when: str
    remedy: str
    from_peer: FromPeer = FromPeer.REJECTED
    retry: Retry = Retry.NO
    ends_as: DelegationStatus | None = None


@dataclass(frozen=True, slots=True)
class ClientCode:
    """A code that a delegating client makes by itself; see `ErrorCode` for the attributes."""

    code: str
    when: str
    remedy: str
    from_peer: FromPeer = FromPeer.REJECTED


REFUSALS: Final = frozenset({402, 403, 404, 508})
"""HTTP statuses by which an endpoint refuses a run. 499 and 508 in the table are as nginx and RFC 5842 use them."""

# The codes that a client makes by itself.
UNREACHABLE: Final = "unreachable"
TIMEOUT: Final = "timeout"
STREAM_BROKEN: Final = "stream_broken"
STREAM_ERROR: Final = "stream_error"
MALFORMED_RESPONSE: Final = "malformed_response"
ANSWER_TOO_LARGE: Final = "answer_too_large"
EMPTY_ANSWER: Final = "empty_answer"
UNANSWERED_TOOL_CALL: Final = "unanswered_tool_call"
AGENT_NOT_LISTED: Final = "agent_not_listed"

# Codes of gateways that a client also makes, for what it refuses or ends itself.
INVALID_REQUEST: Final = "invalid_request_error"
DEPTH_EXCEEDED: Final = "delegation_depth_exceeded"
CONTENT_FILTER: Final = "content_filter"
RUN_CANCELLED: Final = "run_cancelled"
INTERNAL_ERROR: Final = "internal_error"
DEADLINE_EXCEEDED: Final = "deadline_exceeded"

_GATEWAY: Final = (
    ErrorCode(
        INVALID_REQUEST,
        400,
        "a body, header or field cannot be read; `param` names it",
        "Correct what the message names, and send the request again.",
    ),
    ErrorCode("unsupported_parameter", 400, "a field that an agent cannot honour", "Leave the field out."),
    ErrorCode(
        "model_unpriced",
        400,
        "a budget is in force, and no price is known of the LLM, or of a peer that is a plain endpoint",
        "Call it without a budget, or choose another agent.",
        ends_as=DelegationStatus.REFUSED,
    ),
    ErrorCode("llm_bad_request", 400, "the LLM refused the request", "Rephrase the task, or do it yourself.", FromPeer.SAME),
    ErrorCode(
        "context_length_exceeded",
        400,
        "too long for the LLM, and no summary helps",
        "Delegate a shorter task or less context.",
        FromPeer.SAME,
    ),
    ErrorCode(
        CONTENT_FILTER,
        400,
        "the LLM's provider blocked the request or the answer",
        "Rephrase the task, or do it yourself.",
        FromPeer.SAME,
    ),
    ErrorCode(
        "invalid_api_key",
        401,
        "no credential, or one that is unknown, revoked, used up or forged",
        "Do it yourself: the credential for delegations is not accepted.",
    ),
    ErrorCode("run_token_revoked", 401, "the run of the token has ended", "Do it yourself: this run may not delegate any more."),
    ErrorCode(
        "budget_exceeded",
        402,
        "no money is left, and there is no text to show",
        "Finish with what you have: there is no money left to delegate.",
        FromPeer.SAME,
    ),
    ErrorCode("admission_refused", 403, "a policy without a code of its own", "Do it yourself, or choose another agent."),
    ErrorCode(
        DEPTH_EXCEEDED,
        403,
        "the run would be deeper than allowed",
        "Do this part yourself: nothing at this depth may delegate.",
        FromPeer.SAME,
    ),
    ErrorCode(
        "delegation_cycle_detected",
        403,
        "the same agent has the same task further up, on this gateway or beyond another",
        "That agent is on this very task above you: do it yourself, or delegate a smaller part.",
        FromPeer.SAME,
    ),
    ErrorCode(
        "delegation_runs_exhausted",
        403,
        "no more runs may be opened in this subtree",
        "Do the rest yourself: no delegations are left.",
        FromPeer.SAME,
    ),
    ErrorCode(
        "agent_not_allowed",
        403,
        "this caller may not call the agent",
        "Choose an agent that the tool's description lists, or do it yourself.",
    ),
    ErrorCode(
        "workspace_not_allowed",
        403,
        "the caller's key may not name this directory as a workspace",
        "Leave the workspace out: the agent then works in yours, or in one of its own.",
    ),
    ErrorCode(
        "root_key_from_agent",
        403,
        "the key was sent by a process that an agent has started",
        "Use the delegation tool instead of a key.",
    ),
    ErrorCode("not_found", 404, "no such route", "Check the URL: a gateway's ends in /v1."),
    ErrorCode("run_not_found", 404, "no such run, or not one of the caller's", "Go on without that run."),
    ErrorCode(
        "conversation_not_found",
        404,
        "the conversation is unknown, expired, or not one of the caller's",
        "Start a new conversation: leave conversation_id out and repeat what matters in the task.",
    ),
    ErrorCode("model_not_found", 404, "no such agent", "Choose an agent that the tool's description lists, or do it yourself."),
    ErrorCode("method_not_allowed", 405, "the route does not take this method", "Use a method that the `Allow` header lists."),
    ErrorCode(
        "request_timeout",
        408,
        "the head or the body arrived too slowly; nothing was executed",
        "Send the request again.",
        retry=Retry.YES,
    ),
    ErrorCode(
        "conversation_busy",
        409,
        "the conversation belongs to a run that waits for this one, directly or through others",
        "Call the agent without conversation_id: that conversation waits for this run.",
    ),
    ErrorCode(
        "request_too_large",
        413,
        "the body is larger than the gateway takes, or the head than 256 KiB",
        "Send a shorter task or less context.",
    ),
    ErrorCode("idempotency_key_reused", 422, "the key was already sent with a different request", "Send a new key."),
    ErrorCode(
        "peer_rejected",
        424,
        "a peer refused the request, or its answer cannot be read",
        "Choose another agent, or do it yourself.",
    ),
    ErrorCode(
        "delegation_breadth_exceeded",
        429,
        "too many children were live for too long",
        "Wait until a delegation of yours has ended, then try again.",
        FromPeer.NOT_EXECUTED,
        retry=Retry.YES,
    ),
    ErrorCode(
        "llm_rate_limited",
        429,
        "too many requests or tokens for the LLM's provider; `Retry-After` is what it asks for, at most 60 s; after "
        "work `x-should-retry` is `false`: see Requests that come twice",
        "Try again later, or do it yourself.",
        FromPeer.SAME,
        retry=Retry.YES,
    ),
    ErrorCode(
        "capacity_exceeded",
        429,
        "the gateway is full of runs (`scope`: `gateway`), of connections or of bodies that are being received; too "
        "many requests wait for the conversation (`scope`: `conversation`); or the key has as many runs under way "
        "(`max_concurrent_runs`), or has begun as many within a minute (`requests_per_minute`), as it may (`scope`: "
        "`key`)",
        "Try again later, or do it yourself.",
        FromPeer.NOT_EXECUTED,
        retry=Retry.YES,
    ),
    ErrorCode(
        RUN_CANCELLED,
        499,
        "a caller cancelled it, its client disconnected, or the gateway shut down",
        "Delegate again only if the result is still needed.",
        ends_as=DelegationStatus.CANCELLED,
    ),
    ErrorCode(
        INTERNAL_ERROR, 500, "a fault of the gateway; its log has the cause", "Do it yourself: the gateway's log has the cause."
    ),
    ErrorCode("configuration_error", 500, "a profile or a setting that cannot work", "Choose another agent, or do it yourself."),
    ErrorCode("run_failed", 500, "a failure without a code of its own", "Do it yourself, or delegate a smaller part."),
    ErrorCode("agent_error", 500, "the agent failed", "Do it yourself, or delegate a smaller part.", FromPeer.SAME),
    ErrorCode("agent_stuck", 500, "the agent repeated itself", "Do it yourself, or ask in other words.", FromPeer.SAME),
    ErrorCode(
        "max_turns_exceeded",
        500,
        "all LLM calls of the run are used, and there is no text to show",
        "Delegate a smaller task.",
        FromPeer.SAME,
    ),
    ErrorCode(
        "llm_auth_failed", 502, "the LLM's provider did not accept the gateway's key", "Choose another agent, or do it yourself."
    ),
    ErrorCode(
        "llm_not_found",
        502,
        "the provider does not know the model, or has not loaded it",
        "Choose another agent, or do it yourself.",
    ),
    ErrorCode(
        "llm_unavailable",
        502,
        "the LLM is down or unpaid, did not answer, or its answer broke off or cannot be read; the gateway's own "
        "attempts are included",
        "Try again later, or do it yourself.",
        FromPeer.SAME,
    ),
    ErrorCode("peer_failed", 502, "a failure of a peer without a code of its own", "Choose another agent, or do it yourself."),
    ErrorCode(
        "response_format_violated",
        502,
        "the answer does not match `response_format`, also after a repair turn",
        "Ask for a simpler format, or do it yourself.",
        FromPeer.SAME,
    ),
    ErrorCode(
        "not_ready",
        503,
        "the gateway is starting or draining",
        "Try again later, or do it yourself.",
        FromPeer.NOT_EXECUTED,
        retry=Retry.YES,
    ),
    ErrorCode(
        "store_unavailable",
        503,
        "the database or the disk failed",
        "Try again later, or do it yourself.",
        FromPeer.NOT_EXECUTED,
        retry=Retry.BEFORE_RUN,
    ),
    ErrorCode(
        "run_lost",
        503,
        "the gateway crashed while it ran",
        "Check what was already done before you delegate again.",
        FromPeer.SAME,
    ),
    ErrorCode(
        "peer_unavailable",
        503,
        "the peer cannot be reached, or broke off",
        "Try again later, or do it yourself.",
        retry=Retry.BEFORE_RUN,
    ),
    ErrorCode(
        DEADLINE_EXCEEDED,
        504,
        "the time is over, and there is no text to show",
        "Use what there is, delegate a smaller task, or allow more time.",
        FromPeer.SAME,
    ),
    ErrorCode(
        "gateway_loop_detected",
        508,
        "this gateway has already forwarded the request",
        "Choose an agent of this gateway, or do it yourself.",
        FromPeer.SAME,
    ),
)
_CLIENT: Final = (
    ClientCode(
        UNREACHABLE,
        "the endpoint cannot be reached, so nothing was executed",
        "Do it yourself, or try again later.",
        FromPeer.NOT_EXECUTED,
    ),
    ClientCode(TIMEOUT, "the endpoint was silent for too long", "Do it yourself, or try again later.", FromPeer.BROKEN_OFF),
    ClientCode(
        STREAM_BROKEN,
        "the connection broke before the answer was complete",
        "Do it yourself, or try again later.",
        FromPeer.BROKEN_OFF,
    ),
    ClientCode(STREAM_ERROR, "the answer ended with an error that has no code", "Do it yourself, or ask in other words."),
    ClientCode(MALFORMED_RESPONSE, "the answer is not in OpenAI's format", "Choose another agent, or do it yourself."),
    ClientCode(ANSWER_TOO_LARGE, "the answer is longer than may be kept of one", "Ask for less at once."),
    ClientCode(EMPTY_ANSWER, "the answer has no text", "Ask again in other words, or do it yourself."),
    ClientCode(
        UNANSWERED_TOOL_CALL,
        "the endpoint asked for a tool instead of answering, and was offered none",
        "Choose another agent, or do it yourself.",
    ),
    ClientCode(
        AGENT_NOT_LISTED,
        "the tool's description does not list the agent",
        "Choose an agent that the tool's description lists, or do it yourself.",
    ),
)
ERROR_CODES: Final[Mapping[str, ErrorCode]] = {row.code: row for row in _GATEWAY}
CLIENT_CODES: Final[Mapping[str, ClientCode]] = {row.code: row for row in _CLIENT}
_ALL: Final[Mapping[str, ErrorCode | ClientCode]] = {**ERROR_CODES, **CLIENT_CODES}


def remedy_of(code: str) -> str:
    """Return what to do instead, in one sentence; empty for an unknown code."""
    row = _ALL.get(code)
    return "" if row is None else row.remedy


def from_peer(code: str) -> FromPeer:
    """Return what a gateway reports when a run on a peer failed with a code."""
    row = _ALL.get(code)
    return FromPeer.REJECTED if row is None else row.from_peer


def delegation_status(code: str, http_status: int) -> DelegationStatus:
    """Return how a delegation ends whose request was answered with an error."""
    row = ERROR_CODES.get(code)
    if row is not None and row.ends_as is not None:
        return row.ends_as
    return DelegationStatus.REFUSED if http_status in REFUSALS else DelegationStatus.FAILED
