"""Proposals: derive from a request and its caller the run that is to be opened. Pure."""

import uuid
from dataclasses import dataclass, replace

from a2a_gateway.errors import AgentNotAllowed, AuthenticationError, GatewayLoop, ModelBroken, ModelNotFound
from a2a_gateway.runs.kept_text import KeptText
from a2a_gateway.runs.limits import Limits
from a2a_gateway.runs.messages import task_of
from a2a_gateway.runs.model import (
    ConversationId,
    Grant,
    IdempotencyKey,
    KeyRecord,
    Profile,
    RunId,
    RunRecord,
    RunRequest,
)
from a2a_gateway.runs.ports import Profiles, RunProposal
from a2a_gateway.runs.task_marks import TaskMarks
from delegate_tool.protocol.context import DelegationContext
from delegate_tool.protocol.limits import ALLOWED_AGENTS, LimitPolicy, limits_of
from delegate_tool.protocol.text import did_you_mean
from delegate_tool.protocol.values import MODEL_PREFIX, SELF, full_model_id


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request, as authenticated.

    Attributes:
        key: on which everything is charged; a peer has one, too.
        run: the run that sent the request, by its run token or as an agent with a key; None for any other caller.
        grant: of a peer, for one run; None for any other credential.
        asks_as: name of a peer whose token only allows to read and cancel the runs that it has had here.
    """

    key: KeyRecord
    run: RunRecord | None = None
    grant: Grant | None = None
    asks_as: str | None = None

    @property
    def scope(self) -> str:
        """The namespace of idempotency keys and of repeated requests: the run, or else the key, that sends them."""
        return f"key:{self.key.id}" if self.run is None else f"run:{self.run.id}"

    def may_call(self, model: str) -> bool:
        """Return whether the key, and the run that calls with it, allow a model."""
        of_run = None if self.run is None else self.run.limits.allowed_agents
        allowed = ALLOWED_AGENTS.narrow(self.key.policy.allowed_agents, of_run)
        return allowed is None or model in allowed


def find_profile(model: str, caller: Caller, profiles: Profiles) -> Profile:
    """Find the profile of a model id, whose prefix `openhands_` may be left out.

    Raises:
        ModelNotFound: no profile has that name; the message suggests the nearest one that the caller may call.
    """
    try:
        return profiles.get(full_model_id(model))
    except ModelBroken:
        raise
    except ModelNotFound:
        callable_ = (profile.model for profile in profiles.list() if caller.may_call(profile.model))
        nearest = did_you_mean(model, callable_, prefix=MODEL_PREFIX)
        raise ModelNotFound(
            f"There is no model {model[:200]!r}{nearest}; GET /v1/models lists those there are.", param="model"
        ) from None


def resolve_profile(request: RunRequest, caller: Caller, profiles: Profiles) -> Profile:
    """Find the profile that a request names.

    Raises:
        ModelNotFound: no profile has that name.
        AuthenticationError: the caller's token opens no runs; `AgentNotAllowed` if it is for another agent.
    """
    model, grant = request.model, caller.grant
    if caller.asks_as is not None:
        raise AuthenticationError("This token can read runs, and start none. A run needs a grant.")
    if grant is not None and grant.agent != model:
        raise AgentNotAllowed(f"The grant is for {grant.agent}, not for {model[:200]}.", param="model")
    if model == SELF:
        if caller.run is None:
            raise ModelNotFound(
                "`self` means the calling agent, but a key was presented. Name a model of GET /v1/models.", param="model"
            )
        model = caller.run.agent
    return find_profile(model, caller, profiles)


def refuse_loop(request: RunRequest, gateway_id: str) -> None:
    """Refuse a request that this gateway has forwarded before.

    Raises:
        GatewayLoop: this gateway is among those that the request has passed.
    """
    if gateway_id in request.context.via:
        raise GatewayLoop(
            f"This gateway ({gateway_id}) has forwarded this request before. Remove the loop between the peers.",
            details={"via": list(request.context.via)},
        )


def propose(
    request: RunRequest,
    caller: Caller,
    profile: Profile,
    defaults: Limits,
    marks: TaskMarks,
    *,
    trail: tuple[str, ...] = (),
    idempotency_key: IdempotencyKey | None = None,
    task: KeptText | None = None,
) -> RunProposal:
    """Describe the run that a request asks for. Parentage is the credential's, never the request's."""
    asked, grant = request.context, caller.grant
    return RunProposal(
        id=RunId(str(uuid.uuid4())),
        parent_id=caller.run.id if caller.run else None,
        key_id=caller.key.id,
        agent=profile.model,
        task_hash=marks.mark(profile.model, task_of(request.messages)),
        conversation_id=ConversationId(asked.conversation_id or str(uuid.uuid4())),
        defaults=defaults,
        policies=(profile.policy, _asked_limits(asked), *([grant.policy] if grant else [])),
        stated_depth=max(asked.depth or 0, grant.depth) if grant else asked.depth,
        starts=asked.conversation_id is None,  # else it may have to wait for another run on the conversation
        caps=profile.caps,
        on_peer=profile.peer is not None,
        idempotency_key=idempotency_key,
        grant=grant,
        trail=trail,
        task=task,
    )


def _asked_limits(asked: DelegationContext) -> LimitPolicy:
    limits = limits_of(asked)
    if limits.allowed_agents is None:
        return limits
    return replace(limits, allowed_agents=frozenset(map(full_model_id, limits.allowed_agents)))
