"""The SDK's condenser, changed to stop if a summary cannot help, and to raise the error with which the LLM refused.

The SDK's own condenser asks for five summaries even of a single message and of a provider that is down, and its error is about
the summary. This relies on two hooks of the SDK (`ahard_context_reset`, `_agenerate_condensation`);
`tests/agents/llm/test_condenser.py` fails when one goes.
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
_NOTHING_LEFT: Final = (
    "The conversation is longer than the LLM's context window, and it holds nothing that a summary could replace."
)


class GatewayCondenser(LLMSummarizingCondenser):
    """Summarise long conversations; raise the provider's refusal for one that no summary shortens."""

    async def ahard_context_reset(self, view: View, agent_llm: LLM | None = None) -> Condensation:
        """Summarise everything after the system prompt; each further attempt truncates the events to half the length.

        Raises:
            Exception: the error with which the LLM refused the conversation, or that of the summary.
        """
        start = int(bool(view.events) and isinstance(view.events[0], SystemPromptEvent))
        past = view.events[start:]
        if len(past) > 1:
            for most_chars in _halves(past):
                try:
                    return await self._agenerate_condensation(past, start, most_chars)
                except NoCondensationAvailableException as error:
                    if isinstance(cause := error.__cause__, Exception) and not is_context_window_exceeded(cause):
                        # Not `error`: the SDK sets another cause on the error raised here, so this cause would be lost.
                        raise cause from None
        raise _refusal(agent_llm)


def _halves(events: Sequence[LLMConvertibleEvent]) -> Iterator[int | None]:
    yield None
    longest = max(len(str(event)) for event in events)
    for attempt in range(1, _ATTEMPTS):
        yield longest >> attempt


def _refusal(llm: LLM | None) -> Exception:
    refused = llm.last_error if isinstance(llm, MeteredLLM) else None
    return refused or ContextLengthExceeded(_NOTHING_LEFT)
