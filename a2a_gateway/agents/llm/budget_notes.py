"""Notes to the agent about its budget: a warning when most of it is used, and a request to stop before the last call.

A note is appended to the last message of one LLM call, where it invalidates no provider's prompt cache. It is not part of the
conversation and not sent to the caller. It is not a message of its own, because some models (Mistral's) refuse a user message
after a tool message.
"""

from collections.abc import Sequence
from typing import Final

from openhands.sdk.llm import Message, TextContent

from a2a_gateway.errors import BudgetExceeded
from a2a_gateway.runs.ports import Hold
from delegate_tool.protocol.money import format_usd

WARNING_PERCENT: Final = 80
_FINISH: Final = "finish"


def budget_note(hold: Hold) -> str | None:
    """Return the note about the budget for this call; None while less than `WARNING_PERCENT` of the budget are used."""
    budget, left = hold.budget_micro_usd, hold.left_micro_usd
    if budget is None or left is None:
        return None
    if hold.last:
        return (
            f"[Budget] The budget of {format_usd(budget)} USD is used up. This is your last turn, and no tool will run any more: "
            "answer now with what you have, and state what is missing."
        )
    if (budget - left) * 100 < budget * WARNING_PERCENT:
        return None
    return (
        f"[Budget] {(budget - left) * 100 // budget} % of the budget of {format_usd(budget)} USD is used; {format_usd(left)} USD "
        "are left. Do only what matters most, and answer soon."
    )


def append_note(messages: Sequence[Message], note: str) -> list[Message]:
    """Return the messages with a note at the end of the last one; the given messages are not changed."""
    *before, last = messages
    if last.role not in ("user", "tool"):
        return [*messages, Message(role="user", content=[TextContent(text=note)])]
    *parts, end = last.content or [TextContent(text="")]
    if isinstance(end, TextContent):
        parts.append(end.model_copy(update={"text": f"{end.text}\n\n{note}".lstrip()}))
    else:
        parts += [end, TextContent(text=note)]
    return [*before, last.model_copy(update={"content": parts})]


def calls_tools(message: Message) -> bool:
    """Return whether an answer calls a tool other than `finish`."""
    return any(call.name != _FINISH for call in message.tool_calls or ())


def budget_spent_error() -> BudgetExceeded:
    """Return the error of a run that was ended because its budget was used up."""
    return BudgetExceeded("The budget was used up before the agent had finished. Ask for a larger one, or for less at once.")
