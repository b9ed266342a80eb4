"""Summarise long conversations with the SDK's condenser, but stop if a summary cannot help, and raise the LLM's own error.

The SDK's condenser requests five summaries even of a single message and of a provider that is down, and its error is about the
summary. This relies on two hooks of the SDK (`ahard_context_reset`, `_agenerate_condensation`);
`tests/agents/llm/test_condenser.py` fails if a version removes one.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from openhands.sdk.context.condenser import LLMSummarizingCondenser
from openhands.sdk.context.condenser.base import NoCondensationAvailableException
from openhands.sdk.context.view import View
from openhands.sdk.event import LLMConvertibleEvent, SystemPromptEvent
from openhands.sdk.event.condenser import Condensation
from openhands.sdk.llm import LLM
from openhands.sdk.llm.exceptions.classifier import is_context_window_exceeded

from a2a_gateway.agents.llm.metered_llm import MeteredLLM
from a2a_gateway.errors import ContextLengthExceeded

_ATTEMPTS: Final = 5
_CANNOT_SHORTEN: Final = (
    "The conversation is longer than the LLM's context window, and a summary cannot shorten it. Send a shorter message."
)


class GatewayCondenser(LLMSummarizingCondenser):
    """Summarises long conversations; raises the LLM's error for one that a summary cannot shorten."""

    async def ahard_context_reset(self, view: View, agent_llm: LLM | None = None) -> Condensation:
        """Summarise everything after the system prompt; each further attempt truncates the events to half the length.

        Raises:
            Exception: the error with which the LLM refused the conversation, or that of the summary.
        """
        start = 1 if view.events and isinstance(view.events[0], SystemPromptEvent) else 0
        past = view.events[start:]
        if len(past) > 1:
            for most_chars in _halves(past):
                try:
                    return await self._agenerate_condensation(past, start, most_chars)
                except NoCondensationAvailableException as error:
                    if isinstance(cause := error.__cause__, Exception) and not is_context_window_exceeded(cause):
                        # Not `error`: the SDK sets another cause on the error raised here, so this cause would be lost.
                        raise cause from None
        raise _error_of(agent_llm)


def _halves(events: Sequence[LLMConvertibleEvent]) -> Iterator[int | None]:
    yield None
    longest = max(len(str(event)) for event in events)
    for attempt in range(1, _ATTEMPTS):
        yield longest >> attempt


def _error_of(llm: LLM | None) -> Exception:
    last_error = llm.last_error if isinstance(llm, MeteredLLM) else None
    return last_error or ContextLengthExceeded(_CANNOT_SHORTEN)
