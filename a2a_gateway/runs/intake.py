"""Intake: one request with all that is derived from it before anything is recorded. Plain frozen data."""

from dataclasses import dataclass

from a2a_gateway.runs.model import Profile, RunRequest
from a2a_gateway.runs.ports import RunProposal
from a2a_gateway.runs.proposal import Caller


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """Identifies a request that has no idempotency key: the scope of its caller, and a fingerprint of its content."""

    scope: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Intake:
    """One request, resolved.

    Attributes:
        profile: of the agent that it names.
        proposal: the run that it asks for, with its idempotency key.
        identity: None if repetitions of the request are not recognised.
        named_dir: the directory that the caller names as the workspace, once it is known to be allowed.
    """

    request: RunRequest
    caller: Caller
    profile: Profile
    proposal: RunProposal
    identity: RequestIdentity | None
    named_dir: str | None = None
