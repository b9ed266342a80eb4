"""Arguments and options of the commands that begin runs: `ask` and `chat`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from a2a_gateway.cli.options import parse_budget

if TYPE_CHECKING:
    from delegate_tool.protocol.context import DelegationContext

ModelArgument = Annotated[str, typer.Argument(help="The agent, such as openhands_default.")]
BudgetOption = Annotated[str | None, typer.Option(metavar="USD", help="What a task and all its delegations may cost.")]
MaxDepthOption = Annotated[int | None, typer.Option(min=0, help="Greatest depth of the tree; 0 forbids delegation.")]
TimeoutOption = Annotated[
    float | None, typer.Option(metavar="SECONDS", min=0.001, help="Time for a task and all its delegations.")
]
ConversationOption = Annotated[
    str | None, typer.Option(metavar="ID", help="Continue this conversation; `last` is the latest one with the agent.")
]
FileOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--file", "-f", metavar="PATH", help="Add a text file or an image of at most 1 MB to the task; may be repeated."
    ),
]


def build_context(budget_usd: str | None, max_depth: int | None, timeout: float | None) -> "DelegationContext":
    """Build the limits of a request from options.

    Raises:
        CommandError: the budget is not an amount.
    """
    from delegate_tool.protocol.context import DelegationContext

    return DelegationContext(budget_micro_usd=parse_budget(budget_usd), max_depth=max_depth, timeout_s=timeout)
