"""`a2a-gateway runs`: list, show and cancel the runs of a running gateway, and draw them as trees."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from a2a_gateway.cli.listing import Block
from a2a_gateway.cli.options import JsonOption, KeyOption, UrlOption
from a2a_gateway.cli.screen import format_cost, local_time, note, short_id, show, show_json, show_prose, table
from a2a_gateway.cli.short_ids import find_run
from a2a_gateway.errors import RunCancelled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from a2a_gateway.cli.gateway_responses import ListedRun, RunDetails

app = typer.Typer(no_args_is_help=True, help="List, show and cancel runs.")

RunArgument = Annotated[
    str, typer.Argument(metavar="ID", help="Id of a run, or its first characters; `last` is the key's newest root run.")
]


@app.command("list")
def list_runs(
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many, newest first.")] = 20,
    json_output: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """List the latest trees of this key."""
    from a2a_gateway.cli.gateway_client import connect

    with connect(url, key) as gateway:
        found = gateway.recent_runs(limit)
    if json_output:
        show_json([node.model_dump(mode="json", exclude={"children"}) for node in found])
    elif found:
        show(_as_table(found))
    else:
        note("This key has no runs yet.")


@app.command("show")
def show_run(run_id: RunArgument, json_output: JsonOption = False, url: UrlOption = None, key: KeyOption = None) -> None:
    """Show a run: its task, its answer or error, the runs directly below it, its limits, its cost and its workspace."""
    from a2a_gateway.cli.gateway_client import connect

    with connect(url, key) as gateway:
        found = gateway.details(find_run(gateway, run_id))
    if json_output:
        show_json(found.model_dump(mode="json", exclude_unset=True))
    else:
        _show_details(found)


@app.command()
def tree(run_id: RunArgument, json_output: JsonOption = False, url: UrlOption = None, key: KeyOption = None) -> None:
    """Show a run and all runs below it, with depth, state, time, tokens and cost."""
    from a2a_gateway.cli.gateway_client import connect

    with connect(url, key) as gateway:
        found = gateway.tree(find_run(gateway, run_id))
    if json_output:
        show_json(found.model_dump(mode="json"))
    else:
        show(draw_tree(found))


@app.command()
def cancel(run_id: RunArgument, json_output: JsonOption = False, url: UrlOption = None, key: KeyOption = None) -> None:
    """Cancel a run and all runs below it."""
    from a2a_gateway.cli.gateway_client import connect

    with connect(url, key) as gateway:
        found = gateway.cancel(find_run(gateway, run_id))
    if json_output:
        show_json(found.model_dump(mode="json", exclude={"children"}))
    else:
        show(f"{found.id} is {found.state}.")


def _show_details(run: "RunDetails") -> None:
    show(_head_of(run))
    if run.task is not None:
        show(Text("\nTask", "bold"))
        show_prose(f"{run.task.text}{' […]' if run.task.truncated else ''}")
    if run.error is not None:
        show(Text("\nError", "bold"))
        show_prose(f"{run.error.message} ({run.error.code})")
    elif run.answer is not None:
        show(Text("\nAnswer", "bold"))
        show_prose(run.answer.text)
    elif run.ended_at is not None:
        note("\nWhat it answered is not kept, as its request had no Idempotency-Key, or ended more than a day ago.")
    if run.workspace is not None:
        show(Text("\nWorkspace", "bold"))
        show(run.workspace)  # not broken, so that it can be copied
    if run.children:
        show(Text("\nRuns directly below it", "bold"))
        show(_as_table(run.children))


def _head_of(run: "RunDetails") -> Block:
    cost = format_cost(run.cost.tree, complete=run.cost.complete)
    if run.descendants:
        cost += f" (${run.cost.self} itself, the rest for {run.descendants} below it)"
    limits = {name: value for name, value in run.limits.model_dump().items() if value is not None}
    return Block(
        [
            ("agent", Text(run.agent, "bold")),
            ("state", Text.assemble(state_of(run), f" {_reason_of(run)}")),
            ("run", run.id),
            ("parent", run.parent_id and f"{short_id(run.parent_id)}, at depth {run.depth} of the tree {short_id(run.tree_id)}"),
            ("conversation", run.conversation_id),
            ("begun", local_time(run.started_at or run.created_at, precision="seconds")),
            ("ended", run.ended_at and f"{local_time(run.ended_at, precision='seconds')}, after {run.seconds:.1f} s"),
            ("turns", f"{run.turns}, with {run.tokens.prompt:,} tokens read and {run.tokens.completion:,} written"),
            ("cost", cost),
            ("reserved", None if float(run.cost.reserved) == 0 else f"${run.cost.reserved} for calls under way"),
            ("limits", ", ".join(f"{name} {_limit(value)}" for name, value in limits.items())),
        ]
    )


def _limit(value: object) -> str:
    if isinstance(value, list):
        return f"({', '.join(map(str, value))})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def draw_tree(root: "ListedRun") -> Table:
    """Draw a run and all runs below it. Each line has the run's own tokens and cost, and its cost with the runs below it.

    `?` is an unknown price. A run on another gateway than the root's has the name of that gateway beside it.
    """
    numbers = ("depth", "time", "tokens", "cost", "in all")
    drawn = table(
        *("run", "depth", "state", "reason", "time", "tokens", "cost", "in all", "id"),
        right=numbers,
        cut=("run",),
        optional=("depth", "id", "tokens", "time", "in all", "reason"),
    )
    _draw(drawn, root, "", "", home=root.gateway)
    return drawn


def _draw(drawn: Table, node: "ListedRun", first: str, rest: str, *, home: str | None) -> None:
    where = f" @ {node.gateway}" if node.gateway != home else ""
    gap = " (no answer)" if node.unreachable else ""
    drawn.add_row(
        Text.assemble(first, (node.agent, "bold"), (where, "cyan"), (gap, "yellow")),
        str(node.depth),
        state_of(node),
        _reason_of(node),
        f"{node.seconds:.1f} s",
        f"{node.tokens.prompt:,}+{node.tokens.completion:,}",
        f"${node.cost.self}",
        _in_all(node),
        short_id(node.id),
    )
    for child in node.children[:-1]:
        _draw(drawn, child, f"{rest}├── ", f"{rest}│   ", home=home)
    for child in node.children[-1:]:
        _draw(drawn, child, f"{rest}└── ", f"{rest}    ", home=home)


def _in_all(node: "ListedRun") -> str:
    reserved = f" (+ ${node.cost.reserved} reserved)" if float(node.cost.reserved) else ""
    if node.cost.complete and not node.children and not reserved:
        return ""  # as its own
    return f"{format_cost(node.cost.tree, complete=node.cost.complete)}{reserved}"


_STYLES = {"finished": "green", "running": "cyan", "queued": "cyan", "limited": "yellow", "cancelled": "yellow"}


def state_of(node: "ListedRun") -> Text:
    """Return the state of a run in its colour."""
    return Text(node.state, _STYLES.get(node.state, "red"))


def _reason_of(node: "ListedRun") -> str:
    reason = node.error_code or node.stop_reason
    return "" if reason in (None, node.state, RunCancelled.code) else reason


def _as_table(nodes: "Sequence[ListedRun]") -> Table:
    listed = table(
        *("run", "agent", "state", "reason", "begun", "time", "runs", "cost"),
        right=("time", "runs", "cost"),
        optional=("runs", "time", "reason", "begun"),
    )
    for node in nodes:
        cost = format_cost(node.cost.tree, complete=node.cost.complete)
        begun, runs = local_time(node.created_at), str(1 + node.descendants)
        cells = (node.agent, state_of(node), _reason_of(node), begun, f"{node.seconds:.1f} s", runs, cost)
        listed.add_row(short_id(node.id), *cells)
    return listed
