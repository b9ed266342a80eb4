"""The settings of the run service. Plain frozen data."""

from dataclasses import dataclass

from a2a_gateway.runs.limits import Limits


@dataclass(frozen=True, slots=True)
class ServicePolicy:
    """The settings of the run service.

    Attributes:
        base_url: OpenAI base URL under which this gateway's own agents reach it, ending in `/v1`.
        defaults: limits of a root run, before anything narrows them.
        disconnect_grace_s: how long an abandoned run waits for a client to attach.
        journal_bytes: how much is kept of each run beside its record; 0 keeps nothing.
        retry_store_after_s: pause before a write that the database refused is tried again.
    """

    gateway_id: str
    base_url: str
    defaults: Limits
    queue_timeout_s: float = 30.0
    disconnect_grace_s: float = 0.0
    drain_s: float = 30.0
    idempotency_ttl_s: float = 86_400.0
    journal_bytes: int = 1024 * 1024
    retry_store_after_s: float = 1.0
