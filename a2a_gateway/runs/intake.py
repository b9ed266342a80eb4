"""Intake: one request on its way to a run, with all that is derived from it before anything is recorded. Plain frozen data."""

from dataclasses import dataclass

from a2a_gateway.runs.model import Profile, RunRequest
from a2a_gateway.runs.ports import RunProposal
from a2a_gateway.runs.proposal import Caller


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """By what a request without an idempotency key is recognised: its caller's scope, and a fingerprint of what is asked."""

    scope: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Intake:
    """One request, resolved.

    Attributes:
        profile: of the agent that it names.
        proposal: the run that it asks for, with its idempotency key.
        identity: None if the request is never taken for a repeated one.
    """

    request: RunRequest
    caller: Caller
    profile: Profile
    proposal: RunProposal
    identity: RequestIdentity | None
