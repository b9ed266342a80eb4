"""What an agent is told of its budget: a warning when most of it is used, and when to stop.

A note stands at the end of the last message of one LLM call, where it spoils no provider's cache, and nowhere else: it is not
part of the conversation, nor shown to the caller. It is no message of its own, because some models (Mistral's) refuse one of the
user after a tool's.
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
    """Tell the agent of its budget before this call, if there is something to tell."""
    budget, left = hold.budget_micro_usd, hold.left_micro_usd
    if budget is None or left is None:
        return None
    if hold.last:
        return (
            f"[Budget] The budget of {format_usd(budget)} USD is used up. This is your last turn, and no tool will run any more: "
            "answer now with what you have, and say what is missing."
        )
    if (budget - left) * 100 < budget * WARNING_PERCENT:
        return None
    return (
        f"[Budget] {(budget - left) * 100 // budget} % of the budget of {format_usd(budget)} USD is used; {format_usd(left)} USD "
        "are left. Do only what matters most, and come to an answer soon."
    )


def append_note(messages: Sequence[Message], note: str) -> list[Message]:
    """Return the messages with a note at the end of the last one; those given are left as they are."""
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
    """Whether an answer asks for more than to be finished."""
    return any(call.name != _FINISH for call in message.tool_calls or ())


def budget_spent_error() -> BudgetExceeded:
    """Say why a run ends after its last call."""
    return BudgetExceeded("The budget was used up before the agent had finished. Ask for a larger one, or for less at once.")
