"""`a2a-gateway runs`: list, show and cancel the runs of a running gateway, and draw them as trees."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from a2a_gateway.cli.options import JsonOption, KeyOption, UrlOption
from a2a_gateway.cli.screen import local_time, note, short_id, show, show_json, table
from a2a_gateway.cli.short_ids import find_run

if TYPE_CHECKING:
    from a2a_gateway.cli.gateway_client import ListedRun

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
    if not node.cost.complete:
        return f"${node.cost.tree} + ?{reserved}"
    return f"${node.cost.tree}{reserved}" if node.children or reserved else ""


_STYLES = {"finished": "green", "running": "cyan", "queued": "cyan", "limited": "yellow", "cancelled": "yellow"}


def state_of(node: "ListedRun") -> Text:
    """Return the state of a run in its colour."""
    return Text(node.state, _STYLES.get(node.state, "red"))


def _reason_of(node: "ListedRun") -> str:
    reason = node.error_code or node.stop_reason
    return "" if reason in (None, node.state) else reason


def _as_table(nodes: "list[ListedRun]") -> Table:
    listed = table(
        *("run", "agent", "state", "reason", "begun", "time", "runs", "cost"),
        right=("time", "runs", "cost"),
        optional=("runs", "time", "reason", "begun"),
    )
    for node in nodes:
        cost = f"${node.cost.tree}{'' if node.cost.complete else ' +'}"
        begun, runs = local_time(node.created_at), str(1 + node.descendants)
        cells = (node.agent, state_of(node), _reason_of(node), begun, f"{node.seconds:.1f} s", runs, cost)
        listed.add_row(short_id(node.id), *cells)
    return listed
