"""The server's own settings of runs. Plain frozen data."""

from dataclasses import dataclass

from a2a_gateway.runs.limits import Limits


@dataclass(frozen=True, slots=True)
class ServicePolicy:
    """The server's own settings, as far as runs are concerned.

    Attributes:
        base_url: under which this gateway's own agents reach it, ending in `/v1`.
        disconnect_grace_s: how long an abandoned run waits for a client to attach.
        retry_store_after_s: pause before a write that the database refused is tried again.
    """

    gateway_id: str
    base_url: str
    defaults: Limits
    queue_timeout_s: float = 30.0
    disconnect_grace_s: float = 0.0
    drain_s: float = 30.0
    idempotency_ttl_s: float = 86_400.0
    retry_store_after_s: float = 1.0
