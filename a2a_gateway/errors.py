"""The error tree of the gateway.

    GatewayError
    ├── RequestError            the caller's fault: the request cannot be read or served
    │   ├── UnsupportedError       a field that an agent cannot honour
    │   ├── BodyTooLarge, RequestTimeout
    │   ├── RouteNotFound, MethodNotAllowed, RunNotFound, ConversationNotFound
    │   ├── ModelNotFound
    │   │   └── ModelBroken
    │   └── AuthenticationError
    │       └── RunTokenRevoked
    ├── AdmissionError          policy: the run may not start, or may not continue
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
    ├── StoreError              the database or the disk failed: nothing was changed
    │   └── StoreLost
    ├── NotReady                starting or draining
    └── ConfigurationError      settings, profiles or keys that cannot work

By its `code` each class names its row of `delegate_tool.protocol.codes`, which has the HTTP status, whether a retry can help, and
a remedy. A message states the limit, the actual value and the remedy, and never holds a secret.
"""

from collections.abc import Mapping
from typing import ClassVar, Self

from delegate_tool.protocol.codes import ERROR_CODES, Retry


class GatewayError(Exception):
    """Base of all errors that the gateway raises on purpose.

    Args:
        message: one or two sentences for the caller.
        param: the field or header of the request that is at fault, if there is one.
        details: facts for programs, as docs/protocol.md lists them (JSON values only).
        retry_after_s: seconds after which a retry makes sense; only for retryable errors.

    Attributes:
        code: names the row in `ERROR_CODES`.
        retryable: whether a retry can help. It follows from the row and from `run_has_begun`; `as_final` clears it.
    """

    code: ClassVar[str] = "internal_error"
    retryable: bool = False

    def __init_subclass__(cls, *, run_has_begun: bool = False) -> None:
        super().__init_subclass__()
        retry = ERROR_CODES[cls.code].retry
        cls.retryable = retry is Retry.YES or (retry is Retry.BEFORE_RUN and not run_has_begun)

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
        """Add facts that only an outer layer knows, such as the run's id. Existing facts stay as they are."""
        self.details = {**details, **self.details}
        return self

    def as_final(self, remedy: str = "") -> Self:
        """Copy the error as one that is not retryable, and append a remedy to its message."""
        message = f"{self.message} {remedy}" if remedy else self.message
        final = type(self)(message, param=self.param, details=self.details)
        final.retryable = False
        return final


class InternalError(GatewayError):
    """An unexpected failure. The log has the cause; the caller does not get it."""


class RequestError(GatewayError):
    code = "invalid_request_error"


class UnsupportedError(RequestError):
    """A field that an agent cannot honour. Ignoring it would pretend success."""

    code = "unsupported_parameter"


class BodyTooLarge(RequestError):
    code = "request_too_large"


class RequestTimeout(RequestError):
    """The request did not arrive in time, so nothing of it has been executed."""

    code = "request_timeout"


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


class ModelBroken(ModelNotFound):
    """The model's profile cannot be used; the message states why."""


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


class WorkspaceNotAllowed(AdmissionError):
    code = "workspace_not_allowed"


class GatewayLoop(AdmissionError):
    code = "gateway_loop_detected"


class BudgetExceeded(AdmissionError):
    code = "budget_exceeded"


class BudgetHeld(BudgetExceeded):
    """Other LLM calls have reserved the money that is left. Some of it may be released when one of them ends."""


class ModelUnpriced(AdmissionError):
    code = "model_unpriced"


class BreadthExceeded(AdmissionError):
    code = "delegation_breadth_exceeded"


class CapacityExceeded(AdmissionError):
    code = "capacity_exceeded"


class ConversationBusy(AdmissionError):
    code = "conversation_busy"


class IdempotencyKeyReused(AdmissionError):
    """The key was already sent with a different request."""

    code = "idempotency_key_reused"


class RootKeyFromAgent(AdmissionError):
    """An API key was sent by a process that an agent of this gateway has started."""

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
    """The answer does not match the requested `response_format`, even after a repair turn."""

    code = "response_format_violated"


class LLMBadRequest(RunError):
    code = "llm_bad_request"


class LLMAuthFailed(RunError):
    code = "llm_auth_failed"


class LLMNotFound(RunError):
    code = "llm_not_found"


class LLMRateLimited(RunError):
    code = "llm_rate_limited"


class LLMUnavailable(RunError):
    code = "llm_unavailable"


class ContextLengthExceeded(RunError):
    code = "context_length_exceeded"


class ContentFiltered(RunError):
    code = "content_filter"


class PeerError(GatewayError):
    code = "peer_failed"


class PeerUnavailable(PeerError):
    """A peer cannot be reached or has no capacity. It has executed nothing."""

    code = "peer_unavailable"


class PeerLost(PeerUnavailable, run_has_begun=True):
    """A peer broke off during a run. What it had done by then is unknown, so it must not be repeated without being asked."""


class PeerRejected(PeerError):
    """A peer refused the request, or its answer cannot be read."""

    code = "peer_rejected"


class StoreError(GatewayError):
    code = "store_unavailable"


class StoreLost(StoreError, run_has_begun=True):
    """The database failed during a run. What the run had done by then must not be repeated without being asked."""


class NotReady(GatewayError):
    code = "not_ready"


class ConfigurationError(GatewayError):
    code = "configuration_error"


def error_class(code: str, *, retryable: bool | None = None) -> type[GatewayError] | None:
    """Return the class of an error code, the most general if several have it; None for an unknown code.

    Args:
        retryable: the class must be so; None accepts either.
    """
    families: list[type[GatewayError]] = [GatewayError]
    for family in families:
        if family.code == code and family is not GatewayError and retryable in (None, family.retryable):
            return family
        families += family.__subclasses__()
    return None
