"""The error tree of the gateway.

    GatewayError
    ├── RequestError            the caller's fault: what was sent cannot be read or served
    │   ├── UnsupportedError       a field that an agent cannot honour
    │   ├── BodyTooLarge, RequestTimeout
    │   ├── RouteNotFound, MethodNotAllowed, RunNotFound, ConversationNotFound
    │   ├── ModelNotFound
    │   └── AuthenticationError
    │       └── RunTokenRevoked
    ├── AdmissionError          policy: the run may not start, or may not go on
    │   ├── DepthExceeded, CycleDetected, RunsExhausted, AgentNotAllowed, GatewayLoop, ModelUnpriced
    │   ├── BudgetExceeded
    │   │   └── BudgetHeld
    │   ├── BreadthExceeded, CapacityExceeded, ConversationBusy
    │   └── IdempotencyKeyReused, RootKeyFromAgent
    ├── RunError                the agent or its LLM
    │   ├── DeadlineExceeded, RunCancelled, TurnsExceeded, AgentFailed, AgentStuck, AnswerInvalid
    │   ├── LLMBadRequest, LLMAuthFailed, LLMNotFound, LLMRateLimited, LLMUnavailable
    │   └── ContextLengthExceeded, ContentFiltered, RunLost
    ├── PeerError               another gateway
    │   ├── PeerUnavailable
    │   │   └── PeerLost
    │   └── PeerRejected
    ├── StoreError              the database, or the disk: nothing was changed
    │   └── StoreLost
    ├── NotReady                starting or draining
    └── ConfigurationError      settings, profiles or keys that cannot work

Each class has a stable `code` and says whether a retry can help. A message states the limit, the actual value and the remedy, and
never holds a secret. How a code becomes an HTTP status is told once, in `wire.errors`. Standard library only.
"""

from collections.abc import Mapping
from typing import ClassVar, Self


class GatewayError(Exception):
    """Base of everything the gateway raises on purpose.

    Args:
        message: one or two sentences for the caller.
        param: the request's field or header at fault, if one is.
        details: facts for programs, as protocol.md section 5 lists them (JSON values only).
        retry_after_s: when a retry makes sense, in seconds; only for retryable errors.

    Attributes:
        retryable: of the class, and of an error that `as_final` has not made final.
    """

    code: ClassVar[str] = "internal_error"
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        details: Mapping[str, object] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.details: dict[str, object] = dict(details or {})
        self.retry_after_s = retry_after_s

    def with_details(self, **details: object) -> "GatewayError":
        """Add facts that only an outer layer knows, such as the run's id; facts already stated stay."""
        self.details = {**details, **self.details}
        return self

    def as_final(self, remedy: str = "") -> Self:
        """Copy the error as one that no retry can help, with a sentence on what can."""
        message = f"{self.message} {remedy}" if remedy else self.message
        final = type(self)(message, param=self.param, details=self.details)
        final.retryable = False
        return final


class InternalError(GatewayError):
    """Something broke that no other class names; the log has the cause, the caller does not."""


class RequestError(GatewayError):
    code = "invalid_request_error"


class UnsupportedError(RequestError):
    """A field that an agent cannot honour; ignoring it would fake success."""

    code = "unsupported_parameter"


class BodyTooLarge(RequestError):
    code = "request_too_large"


class RequestTimeout(RequestError):
    """The request did not arrive in time, so nothing of it has been executed."""

    code = "request_timeout"
    retryable = True


class RouteNotFound(RequestError):
    code = "not_found"


class MethodNotAllowed(RequestError):
    code = "method_not_allowed"


class RunNotFound(RequestError):
    code = "run_not_found"


class ConversationNotFound(RequestError):
    code = "conversation_not_found"


class ModelNotFound(RequestError):
    code = "model_not_found"


class AuthenticationError(RequestError):
    code = "invalid_api_key"


class RunTokenRevoked(AuthenticationError):
    code = "run_token_revoked"


class AdmissionError(GatewayError):
    code = "admission_refused"


class DepthExceeded(AdmissionError):
    code = "delegation_depth_exceeded"


class CycleDetected(AdmissionError):
    code = "delegation_cycle_detected"


class RunsExhausted(AdmissionError):
    code = "delegation_runs_exhausted"


class AgentNotAllowed(AdmissionError):
    code = "agent_not_allowed"


class GatewayLoop(AdmissionError):
    code = "gateway_loop_detected"


class BudgetExceeded(AdmissionError):
    code = "budget_exceeded"


class BudgetHeld(BudgetExceeded):
    """What is left would do, but other LLM calls have set it aside; it may be free again when one of them has ended."""


class ModelUnpriced(AdmissionError):
    code = "model_unpriced"


class BreadthExceeded(AdmissionError):
    code = "delegation_breadth_exceeded"
    retryable = True


class CapacityExceeded(AdmissionError):
    code = "capacity_exceeded"
    retryable = True


class ConversationBusy(AdmissionError):
    code = "conversation_busy"


class IdempotencyKeyReused(AdmissionError):
    """The key names an earlier request that asked for something else."""

    code = "idempotency_key_reused"


class RootKeyFromAgent(AdmissionError):
    """A key was presented by a process that an agent of this gateway has started."""

    code = "root_key_from_agent"


class RunError(GatewayError):
    code = "run_failed"


class DeadlineExceeded(RunError):
    code = "deadline_exceeded"


class TurnsExceeded(RunError):
    code = "max_turns_exceeded"


class RunCancelled(RunError):
    code = "run_cancelled"


class RunLost(RunError):
    code = "run_lost"


class AgentFailed(RunError):
    code = "agent_error"


class AgentStuck(RunError):
    code = "agent_stuck"


class AnswerInvalid(RunError):
    """The answer does not fit the requested `response_format`, also after a repair turn."""

    code = "response_format_violated"


class LLMBadRequest(RunError):
    code = "llm_bad_request"


class LLMAuthFailed(RunError):
    code = "llm_auth_failed"


class LLMNotFound(RunError):
    code = "llm_not_found"


class LLMRateLimited(RunError):
    code = "llm_rate_limited"
    retryable = True


class LLMUnavailable(RunError):
    code = "llm_unavailable"


class ContextLengthExceeded(RunError):
    code = "context_length_exceeded"


class ContentFiltered(RunError):
    code = "content_filter"


class PeerError(GatewayError):
    code = "peer_failed"


class PeerUnavailable(PeerError):
    """A peer cannot be reached, or is full: it has executed nothing."""

    code = "peer_unavailable"
    retryable = True


class PeerLost(PeerUnavailable):
    """A peer broke off in the middle of a run: what it had done by then is not known, and must not be done twice unasked."""

    retryable = False


class PeerRejected(PeerError):
    """A peer refused what was asked of it, or answered what cannot be read."""

    code = "peer_rejected"


class StoreError(GatewayError):
    code = "store_unavailable"
    retryable = True


class StoreLost(StoreError):
    """The database failed in the middle of a run: what it had done by then must not be done twice unasked."""

    retryable = False


class NotReady(GatewayError):
    code = "not_ready"
    retryable = True


class ConfigurationError(GatewayError):
    code = "configuration_error"


def error_class(code: str, *, retryable: bool | None = None) -> type[GatewayError] | None:
    """Find the class of an error by its code, the most general where several share it; None if there is none.

    `retryable` is what the class must say of that; None takes either.
    """
    families: list[type[GatewayError]] = [GatewayError]
    for family in families:
        if family.code == code and family is not GatewayError and retryable in (None, family.retryable):
            return family
        families += family.__subclasses__()
    return None
