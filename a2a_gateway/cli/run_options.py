"""Arguments and options of the commands that begin runs: `ask` and `chat`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from a2a_gateway.cli.command_error import EXIT_USAGE, CommandError
from a2a_gateway.cli.options import parse_budget, resolve_directory

if TYPE_CHECKING:
    from a2a_gateway.cli.gateway_client import RemoteGateway
    from delegate_tool.protocol.context import DelegationContext

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="The agent, such as openhands_default.")]
BudgetOption = Annotated[str | None, typer.Option(metavar="USD", help="What a task and all its delegations may cost.")]
MaxDepthOption = Annotated[int | None, typer.Option(min=0, help="Greatest depth of the tree; 0 forbids delegation.")]
TimeoutOption = Annotated[
    float | None, typer.Option(metavar="SECONDS", min=0.001, help="Time for a task and all its delegations.")
]
ConversationOption = Annotated[
    str | None, typer.Option(metavar="ID", help="Continue this conversation; `last` is the latest one with the agent.")
]
WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        "-w",
        metavar="DIR",
        help="Let the agent work in this directory, on a gateway of this machine. The key must allow it.",
    ),
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


def find_workspace(gateway: "RemoteGateway", path: Path | None) -> str | None:
    """Return the directory that an agent is to work in, as the gateway sees it.

    Raises:
        CommandError: it is not a directory, or the gateway runs on another machine, where the path may be that of another one.
    """
    if path is None:
        return None
    if not gateway.is_on_this_machine:
        raise CommandError(
            f"--workspace names a directory of this machine, and {gateway.base_url} may be another one.",
            "Leave it out: the agent then works in a workspace of the gateway. --file adds files to the task.",
            exit_code=EXIT_USAGE,
        )
    return resolve_directory("--workspace", path)
