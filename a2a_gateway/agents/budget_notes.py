"""What an agent is told of its budget: a warning when most of it is used, and when to stop.

A note stands at the end of the messages of one LLM call, where it spoils no provider's cache, and nowhere else: it is not part of
the conversation, nor shown to the caller.
"""

from typing import Final

from openhands.sdk.llm import Message, TextContent

from a2a_gateway.errors import BudgetExceeded
from a2a_gateway.runs.ports import Hold
from delegate_tool.money import format_usd

WARNING_PERCENT: Final = 80
_FINISH: Final = "finish"


def note_of(hold: Hold) -> Message | None:
    """Tell the agent of its budget before this call, if there is something to tell."""
    budget, left = hold.budget_micro_usd, hold.left_micro_usd
    if budget is None or left is None:
        return None
    if hold.last:
        return _note(
            f"The budget of {format_usd(budget)} USD is used up. This is your last turn, and no tool will run any more: answer "
            "now with what you have, and say what is missing."
        )
    if (budget - left) * 100 < budget * WARNING_PERCENT:
        return None
    return _note(
        f"{(budget - left) * 100 // budget} % of the budget of {format_usd(budget)} USD is used; {format_usd(left)} USD are "
        "left. Do only what matters most, and come to an answer soon."
    )


def calls_tools(message: Message) -> bool:
    """Whether an answer asks for more than to be finished."""
    return any(call.name != _FINISH for call in message.tool_calls or ())


def spent_up() -> BudgetExceeded:
    """Say why a run ends after its last call."""
    return BudgetExceeded("The budget was used up before the agent had finished. Ask for a larger one, or for less at once.")


def _note(text: str) -> Message:
    return Message(role="user", content=[TextContent(text=f"[Budget] {text}")])
