"""How a gateway lends a run's credential, connection and event loop to the delegation tool of that run.

The SDK builds a tool from parameters that it persists, in threads of its own that inherit no context variables; neither can carry
a secret. So what a tool may not be *given* it *finds*, under the id of the conversation that is being initialised, for as long as
`use_binding` lasts. Afterwards only the tool's executor holds it. Imports neither the SDK nor, at run time, openai.
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
    """A run's permission to delegate, with the means to use it.

    The gateway owns the client's connection pool and the loop; both must outlive the run.

    Attributes:
        client: presents the run's token; shares its connections with the client that it was made from.
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

        It takes microseconds, because nothing is connected or built anew.
        """
        deadline_at = None if binding.timeout_s is None else time.monotonic() + binding.timeout_s
        return cls(binding, shared.with_options(api_key=binding.token, base_url=binding.base_url), loop, deadline_at)


# The only state at module level: see the module docstring for why nothing narrower reaches `ToolDefinition.create`.
# Single item reads and writes are atomic, and every conversation has a key of its own.
_BOUND: Final[dict[UUID, BoundClient | None]] = {}


@contextmanager
def use_binding(conversation_id: UUID, bound: BoundClient | None) -> Iterator[None]:
    """Let the delegation tool of one conversation find its binding while the conversation initialises its tools.

    Args:
        bound: None forbids: the run gets no delegation tool, also not one that uses the endpoint in the gateway's environment.

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
    """Return what `use_binding` offers to a conversation.

    Raises:
        LookupError: nothing is offered: no gateway runs this conversation.
    """
    return _BOUND[conversation_id]
