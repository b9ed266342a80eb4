"""`a2a-gateway spend`: report what the agents have cost. It reads the store, whether or not a gateway is running."""

import asyncio
import csv
import io
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from a2a_gateway.cli.local_store import own_store
from a2a_gateway.cli.options import ConfigOption, DataDirOption, JsonOption, read_settings
from a2a_gateway.cli.screen import format_cost, note, show, show_json, table

if TYPE_CHECKING:
    from rich.table import Table

    from a2a_gateway.settings import Settings
    from a2a_gateway.stores import SpendLine

_DAY = ["%Y-%m-%d"]
_COLUMNS = ("name", "calls", "prompt_tokens", "completion_tokens", "cost_usd", "complete")


def spend(
    by: Annotated[str, typer.Option(metavar="key|agent|day", help="What each line sums up.")] = "key",
    since: Annotated[datetime | None, typer.Option(formats=_DAY, help="First day (UTC), included.")] = None,
    until: Annotated[datetime | None, typer.Option(formats=_DAY, help="Last day (UTC), included.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    json_output: JsonOption = False,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
) -> None:
    """Show what was spent by key, by agent (each agent's own LLM calls) or by day."""
    rows = [_row(line) for line in asyncio.run(_lines(read_settings(config, data_dir=data_dir), by, since, until))]
    if json_output:
        show_json(rows)
    elif as_csv:
        show(_as_csv(rows).rstrip())
    elif rows:
        show(_as_table(by, rows))
    else:
        note("Nothing has been spent yet.")


async def _lines(settings: "Settings", by: str, since: datetime | None, until: datetime | None) -> "list[SpendLine]":
    from a2a_gateway.stores import SpendBy

    if by not in list(SpendBy):
        raise typer.BadParameter(f"it must be one of {', '.join(SpendBy)}, not {by!r}", param_hint="--by")
    async with own_store(settings) as store:
        return await store.spending.lines(SpendBy(by), since=since and since.date(), until=until and until.date())


def _row(line: "SpendLine") -> dict[str, object]:
    from delegate_tool.protocol.money import format_usd

    cost = format_usd(line.cost_micro_usd)
    values = (line.name, line.calls, line.prompt_tokens, line.completion_tokens, cost, line.complete)
    return dict(zip(_COLUMNS, values, strict=True))


def _as_csv(rows: list[dict[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS)
    writer.writeheader()
    writer.writerows({**row, "complete": "true" if row["complete"] else "false"} for row in rows)
    return text.getvalue()


def _as_table(by: str, rows: list[dict[str, object]]) -> "Table":
    numbers = ("calls", "tokens in", "tokens out", "cost")
    what = "day (UTC)" if by == "day" else by
    listed = table(what, *numbers, right=numbers, wraps=(what,), optional=("tokens out", "tokens in", "calls"))
    for row in rows:
        cost = format_cost(str(row["cost_usd"]), complete=bool(row["complete"]))
        listed.add_row(str(row["name"]), *(f"{row[name]:,}" for name in _COLUMNS[1:4]), cost)
    return listed
