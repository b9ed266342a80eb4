"""Pass a run's credential, connection and event loop from the gateway to the delegation tool of that run.

The SDK builds a tool from parameters that it persists, so they cannot carry a secret. It does so in threads of its own, which do
not inherit context variables. So the tool looks its binding up by the id of the conversation that is being initialised. The
binding can be found only while `use_binding` lasts; afterwards only the tool's executor holds it. This module imports neither the
SDK nor, at run time, openai.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self
from uuid import UUID

from delegate_tool.protocol.context import DelegationBinding

if TYPE_CHECKING:
    from openai import AsyncOpenAI


@dataclass(frozen=True, slots=True)
class BoundClient:
    """A run's permission to delegate, with the client and event loop for it.

    The gateway owns the client's connection pool and the loop; both must outlive the run.

    Attributes:
        client: sends the run's token; shares its connections with the client that it was made from.
        loop: the running loop that the connections belong to.
        deadline_at: when the run must have ended, on this machine's `time.monotonic()`; None if it has no deadline.
    """

    binding: DelegationBinding
    client: "AsyncOpenAI" = field(repr=False)
    loop: asyncio.AbstractEventLoop = field(repr=False)
    deadline_at: float | None = None

    @classmethod
    def for_run(cls, binding: DelegationBinding, shared: "AsyncOpenAI", loop: asyncio.AbstractEventLoop) -> Self:
        """Bind a run to a client that all runs share. Call it when the run begins: its time is counted from this call.

        This takes microseconds, because no new connection is made.
        """
        deadline_at = None if binding.timeout_s is None else time.monotonic() + binding.timeout_s
        return cls(binding, shared.with_options(api_key=binding.token, base_url=binding.base_url), loop, deadline_at)


# The only state at module level: see the module docstring for why nothing narrower reaches `ToolDefinition.create`.
# Reading or writing one item is atomic, and every conversation has a key of its own.
_BOUND: Final[dict[UUID, BoundClient | None]] = {}


@contextmanager
def use_binding(conversation_id: UUID, bound: BoundClient | None) -> Iterator[None]:
    """Let the delegation tool of one conversation find its binding while the conversation initialises its tools.

    Args:
        bound: None forbids delegation: the run gets no delegation tool, not even one for the endpoint in the gateway's
            environment.

    Raises:
        ValueError: the conversation is being initialised elsewhere at the same time.
    """
    if conversation_id in _BOUND:
        raise ValueError(f"conversation {conversation_id} is already bound")
    _BOUND[conversation_id] = bound
    try:
        yield
    finally:
        del _BOUND[conversation_id]


def find_binding(conversation_id: UUID) -> BoundClient | None:
    """Return the binding of a conversation; None if it must not delegate.

    Raises:
        LookupError: there is no entry, so no gateway runs this conversation.
    """
    return _BOUND[conversation_id]
