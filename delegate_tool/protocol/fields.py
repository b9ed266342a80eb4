"""Names of everything that the protocol adds to OpenAI's format: headers, and fields of `usage`. See docs/protocol.md.

Each name stands here once. Sender and receiver refer to it, and so do tests, except where a test pins what is on the wire.
"""

from enum import StrEnum
from typing import Final

PROTOCOL_VERSION: Final = "1"


class Header(StrEnum):
    """Headers of requests and responses. HTTP ignores their case; a plain dict does not, so look them up as they are stored."""

    # Requests, and responses where marked.
    MAX_DEPTH = "X-A2A-Max-Depth"  # also in responses
    DEPTH = "X-A2A-Depth"  # also in responses
    BUDGET_USD = "X-A2A-Budget-USD"
    MAX_RUNS = "X-A2A-Max-Runs"
    MAX_BREADTH = "X-A2A-Max-Breadth"
    TIMEOUT = "X-A2A-Timeout"  # also in responses
    MAX_TURNS = "X-A2A-Max-Turns"
    ALLOWED_AGENTS = "X-A2A-Allowed-Agents"
    VIA = "X-A2A-Via"
    TRAIL = "X-A2A-Trail"
    ON_DISCONNECT = "X-A2A-On-Disconnect"
    NARRATION = "X-A2A-Narration"
    WORKSPACE = "X-A2A-Workspace"
    IDEMPOTENCY_KEY = "Idempotency-Key"
    CONVERSATION_ID = "X-OpenHands-ServerConversation-ID"  # also in responses
    TRACEPARENT = "traceparent"
    TRACESTATE = "tracestate"

    # Responses only.
    REQUEST_ID = "X-Request-ID"
    PROTOCOL = "X-A2A-Protocol"
    RUN_ID = "X-A2A-Run-ID"
    TREE_ID = "X-A2A-Tree-ID"
    IGNORED = "X-A2A-Ignored"
    IDEMPOTENT_REPLAY = "X-A2A-Idempotent-Replay"
    COST_USD = "X-A2A-Cost-USD"
    COST_SELF_USD = "X-A2A-Cost-Self-USD"
    COST_COMPLETE = "X-A2A-Cost-Complete"
    BUDGET_REMAINING_USD = "X-A2A-Budget-Remaining-USD"
    STOP_REASON = "X-A2A-Stop-Reason"
    LITELLM_COST = "x-litellm-response-cost"
    SHOULD_RETRY = "x-should-retry"


class UsageField(StrEnum):
    """What the protocol adds to OpenAI's `usage`."""

    COST = "cost"
    COST_DETAILS = "cost_details"
    DELEGATION = "delegation"


class CostField(StrEnum):
    """Fields of `usage.cost_details`."""

    SELF = "self"
    DESCENDANTS = "descendants"
    CURRENCY = "currency"
    COMPLETE = "complete"
    PENDING = "pending"
    BY_AGENT = "by_agent"


class DelegationField(StrEnum):
    """Fields of `usage.delegation`. `PARENT` holds `REMAINING` and `RUNS_LEFT` of the run that delegated."""

    RUN_ID = "run_id"
    TREE_ID = "tree_id"
    DEPTH = "depth"
    MAX_DEPTH = "max_depth"
    RUNS = "runs"
    TURNS = "turns"
    STOP_REASON = "stop_reason"
    BUDGET = "budget"
    REMAINING = "remaining"
    PARENT = "parent"
    RUNS_LEFT = "runs_left"
    TREE_TOKENS = "tree_tokens"
