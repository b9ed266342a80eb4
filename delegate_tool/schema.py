"""What the delegating agent's LLM writes (`DelegationAction`) and reads (`DelegationObservation`).

The class names are wire names to the SDK, unique among all tools of a process: `DelegateAction` is taken by `openhands.tools`.
"""

from collections.abc import Sequence
from typing import Annotated

from openhands.sdk import ImageContent, TextContent
from openhands.sdk.tool import Action, Observation
from pydantic import BeforeValidator, Field
from rich.text import Text

from delegate_tool.protocol.codes import remedy_of
from delegate_tool.protocol.money import format_usd
from delegate_tool.protocol.result import DelegationResult, DelegationStatus
from delegate_tool.remaining import Remaining

_STYLES = {
    DelegationStatus.FINISHED: "green",
    DelegationStatus.PARTIAL: "yellow",
    DelegationStatus.REFUSED: "magenta",
    DelegationStatus.FAILED: "red",
    DelegationStatus.CANCELLED: "red",
}
_PREVIEW = 100


def _number_as_text(value: object) -> object:
    # LLMs write money as a number as often as they write it as a string.
    match value:
        case bool():
            return value
        case int():
            return f"{value}.000000"  # it may be too large for a float
        case float():
            return f"{value:.6f}"
        case _:
            return value


def _message(result: DelegationResult) -> str | None:
    """State what went wrong, and what an agent can do instead."""
    remedy = "" if result.error_code is None else remedy_of(result.error_code)
    return " ".join(part for part in (result.error_message, remedy) if part) or None


class DelegationAction(Action):
    """One delegation, as the LLM asks for it."""

    agent: str = Field(description="Model id of the agent to call, exactly as listed above.")
    task: str = Field(
        description="The whole task, self-contained: goal, inputs, constraints, and the form of the answer that you need. "
        "The agent sees nothing of your conversation."
    )
    context: str | None = Field(
        default=None, description="Facts that the agent needs beside the task: findings, file paths, decisions."
    )
    conversation_id: str | None = Field(
        default=None, description="From an earlier result, to go on with the same agent, which then remembers what it did."
    )
    budget_usd: Annotated[str | None, BeforeValidator(_number_as_text)] = Field(
        default=None, description='Most that this may cost in USD, all it delegates included, such as "0.50".'
    )
    timeout_s: float | None = Field(default=None, description="Most seconds that this may take.")

    @property
    def visualize(self) -> Text:
        """Render the agent, the limits and the task for a terminal."""
        text = Text("→ ").append(self.agent, style="bold cyan")
        limits = [f"${self.budget_usd}" if self.budget_usd else "", f"{self.timeout_s:g} s" if self.timeout_s else ""]
        if any(limits):
            text.append(f"  (at most {', '.join(limit for limit in limits if limit)})", style="dim")
        return text.append(f"\n{self.task}")


class DelegationObservation(Observation):
    """How the delegation ended. `content` is the agent's answer alone; for the LLM, a head of facts stands above it."""

    status: DelegationStatus
    agent: str
    message: str | None = Field(default=None, description="What went wrong, and what to do instead.")
    error_code: str | None = None
    run_id: str | None = None
    conversation_id: str | None = None
    cost_usd: str | None = Field(default=None, description="Exact decimal; None is unknown, which is not zero.")
    cost_complete: bool = False
    budget_enforced: bool | None = Field(default=None, description="False: the endpoint is no gateway, and ignores the budget.")
    turns: int | None = None
    seconds: float = 0.0
    depth_left: int | None = None
    runs_left: int | None = None
    budget_left_usd: str | None = None
    time_left_s: float | None = None
    left: str = Field(default="", description="The four above, in words.")

    @classmethod
    def from_result(cls, agent: str, result: DelegationResult, left: Remaining) -> "DelegationObservation":
        """Make the observation for the agent that delegated."""
        return cls(
            content=[TextContent(text=result.answer)] if result.answer else [],
            is_error=result.status not in (DelegationStatus.FINISHED, DelegationStatus.PARTIAL),
            status=result.status,
            agent=agent,
            message=_message(result),
            error_code=result.error_code,
            run_id=result.run_id,
            conversation_id=result.conversation_id,
            cost_usd=None if result.cost_micro_usd is None else format_usd(result.cost_micro_usd),
            cost_complete=result.cost_complete,
            budget_enforced=result.budget_enforced,
            turns=result.turns,
            seconds=round(result.seconds, 3),
            depth_left=left.depth,
            runs_left=left.runs,
            budget_left_usd=None if left.budget_micro_usd is None else format_usd(left.budget_micro_usd),
            time_left_s=left.seconds,
            left=str(left),
        )

    @property
    def answer(self) -> str:
        """The agent's text; empty if it gave no answer."""
        return self.text

    @property
    def to_llm_content(self) -> Sequence[TextContent | ImageContent]:
        """Render the facts, then the answer, so that truncation keeps the facts. One text, as some endpoints accept only one."""
        return [TextContent(text="\n".join([*self._head(), *([self.answer] if self.content else [])]))]

    @property
    def visualize(self) -> Text:
        """Render the delegation as a small tree for a terminal."""
        text = Text("● ", style=_STYLES[self.status]).append(self.agent, style="bold").append(f"  {self.status}")
        lines = [
            line for line in (self._facts(), self.message, self._preview(), f"left: {self.left}" if self.left else "") if line
        ]
        for line in lines:
            text.append("\n└─ " if line is lines[-1] else "\n├─ ", style="dim").append(line)
        return text

    def _head(self) -> list[str]:
        head = [f"[{self.agent}: {self.status}; {self._facts()}]"]
        if self.message:
            head.append(self.message)
        if self.status is DelegationStatus.PARTIAL:
            head.append(
                "A limit ended the run, so the answer is incomplete: go on with its conversation_id, or use what there is."
            )
        if self.budget_enforced is False:
            head.append("Its endpoint is no gateway and ignores the budget: nothing bounds what it costs.")
        if self.conversation_id and not self.is_error:
            head.append(f'To go on with this agent: conversation_id="{self.conversation_id}".')
        if self.left:
            head.append(f"Left for delegations: {self.left}.")
        if self.content:
            head.append("Its answer:" if not self.is_error else "What it had written by then:")
        elif not self.is_error:
            head.append("It gave an empty answer.")
        return head

    def _facts(self) -> str:
        cost = "unknown cost" if self.cost_usd is None else f"${self.cost_usd}"
        parts = (
            "" if self.turns is None else f"{self.turns} turn{'s' if self.turns != 1 else ''}",
            f"{self.seconds:.1f} s",
            cost if self.cost_complete or self.cost_usd is None else f"at least {cost}",
            f"run {self.run_id}" if self.run_id else "",
        )
        return ", ".join(part for part in parts if part)

    def _preview(self) -> str:
        line = " ".join(self.answer.split())
        return line if len(line) <= _PREVIEW else f"{line[:_PREVIEW]}…"
