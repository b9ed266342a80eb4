"""`a2a-gateway keys`: create, list and revoke API keys. It works on the store, whether or not a gateway is running."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from a2a_gateway.cli.local_store import own_store
from a2a_gateway.cli.options import ConfigOption, DataDirOption, JsonOption, parse_budget, read_settings, resolve_directory
from a2a_gateway.cli.screen import local_time, note, short_id, show, show_json, table

if TYPE_CHECKING:
    from a2a_gateway.runs.key_limits import RequestLimits
    from a2a_gateway.runs.model import KeyRecord, SpendCaps
    from a2a_gateway.settings import Settings
    from delegate_tool.protocol.limits import LimitPolicy

app = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="A name for the key: its user or its purpose.")],
    agents: Annotated[str | None, typer.Option(metavar="A,B", help="The only models that it may call.")] = None,
    budget_usd: Annotated[str | None, typer.Option(metavar="USD", help="What all its calls together may cost.")] = None,
    budget_per_day_usd: Annotated[str | None, typer.Option(metavar="USD", help="The same, for each day (UTC).")] = None,
    budget_per_month_usd: Annotated[str | None, typer.Option(metavar="USD", help="The same, for each month (UTC).")] = None,
    max_depth: Annotated[int | None, typer.Option(min=0, help="Greatest depth of its trees; 0 forbids delegation.")] = None,
    max_concurrent_runs: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Trees that it may have under way at the same time.")
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Trees that it may begin within a minute.")
    ] = None,
    workspaces: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="It may let agents work in this directory and those below it (`ask --workspace`); may be repeated.",
        ),
    ] = None,
    json_output: JsonOption = False,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a key and print it, only this once."""
    settings = read_settings(config, data_dir=data_dir)
    caps = _caps(budget_usd, budget_per_day_usd, budget_per_month_usd)
    limits = _request_limits(max_concurrent_runs, requests_per_minute)
    directories = [resolve_directory("--workspaces", path) for path in workspaces or ()]
    record, secret = asyncio.run(_create(settings, name, _policy(agents, max_depth), caps, limits, directories))
    if json_output:
        show_json({"name": record.name, "key": secret, "id": record.id})
    else:
        show(secret)
        note("It is printed only this once. To use it: export A2A_API_KEY=<key>")


@app.command("list")
def list_keys(json_output: JsonOption = False, data_dir: DataDirOption = None, config: ConfigOption = None) -> None:
    """List the keys, with what they may do and what they have spent."""
    records = asyncio.run(_list(read_settings(config, data_dir=data_dir)))
    if json_output:
        show_json([_as_json(record) for record in records])
    elif records:
        show(_as_table(records))
    else:
        note("There is no key. `a2a-gateway keys create NAME` makes one.")


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="Name of the key, its id, or the first characters of its id.")],
    json_output: JsonOption = False,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
) -> None:
    """Revoke a key. A running gateway refuses it at once, and cancels the runs that it has started."""
    record = asyncio.run(_revoke(read_settings(config, data_dir=data_dir), name))
    if json_output:
        show_json(_as_json(record))
    else:
        show(f"Revoked {record.name} ({short_id(record.id)}).")


async def _create(
    settings: "Settings",
    name: str,
    policy: "LimitPolicy",
    caps: "SpendCaps",
    limits: "RequestLimits",
    workspaces: list[str],
) -> "tuple[KeyRecord, str]":
    async with own_store(settings) as store:
        return await store.keys.create_key(name, policy, caps, limits, workspaces)


async def _list(settings: "Settings") -> "list[KeyRecord]":
    async with own_store(settings) as store:
        return list(await store.keys.list_keys())


async def _revoke(settings: "Settings", name: str) -> "KeyRecord":
    async with own_store(settings) as store:
        return await store.keys.revoke(name)


def _caps(total_usd: str | None, day_usd: str | None, month_usd: str | None) -> "SpendCaps":
    from a2a_gateway.runs.model import SpendCaps

    return SpendCaps(
        parse_budget(total_usd), parse_budget(day_usd, "--budget-per-day-usd"), parse_budget(month_usd, "--budget-per-month-usd")
    )


def _request_limits(max_concurrent_runs: int | None, requests_per_minute: int | None) -> "RequestLimits":
    from a2a_gateway.runs.key_limits import RequestLimits

    return RequestLimits(max_concurrent_runs, requests_per_minute)


def _policy(agents: str | None, max_depth: int | None) -> "LimitPolicy":
    from delegate_tool.protocol.limits import LimitPolicy
    from delegate_tool.protocol.values import full_model_id

    names = None if agents is None else [name.strip() for name in agents.split(",") if name.strip()]
    models = None if names is None else frozenset(map(full_model_id, names))
    return LimitPolicy(max_depth=max_depth, allowed_agents=models)


def _as_json(record: "KeyRecord") -> dict[str, object]:
    from delegate_tool.protocol.money import format_usd

    caps, agents = record.caps, record.policy.allowed_agents
    budgets = {
        "budget_usd": caps.total_micro_usd,
        "budget_per_day_usd": caps.day_micro_usd,
        "budget_per_month_usd": caps.month_micro_usd,
    }
    return {
        "id": record.id,
        "name": record.name,
        "agents": None if agents is None else sorted(agents),
        **{name: None if budget is None else format_usd(budget) for name, budget in budgets.items()},
        "spent_usd": format_usd(record.spent_micro_usd),
        "max_depth": record.policy.max_depth,
        "max_concurrent_runs": record.request_limits.max_concurrent_runs,
        "requests_per_minute": record.request_limits.requests_per_minute,
        "workspaces": list(record.workspaces),
        "created_at": _instant(record.created_at),
        "last_used_at": _instant(record.last_used_at),
        "revoked_at": _instant(record.revoked_at),
    }


def _as_table(records: "list[KeyRecord]") -> Table:
    amounts = ("budget", "a day", "a month", "spent")
    limits = ("depth", "at once", "a minute")
    listed = table(
        *("name", "id", "agents", *amounts, *limits, "last used", "revoked"),
        right=(*amounts, *limits),
        wraps=("name", "agents"),
        optional=("depth", "at once", "a minute", "last used", "a month", "a day", "budget", "revoked"),
    )
    for record in records:
        shown = _as_json(record)
        agents = shown["agents"]
        cells: list[object] = [record.name, short_id(record.id), ", ".join(agents) if isinstance(agents, list) else "any"]
        cells += [shown[column] for column in ("budget_usd", "budget_per_day_usd", "budget_per_month_usd", "spent_usd")]
        cells += [shown[column] for column in ("max_depth", "max_concurrent_runs", "requests_per_minute")]
        cells += [local_time(record.last_used_at), local_time(record.revoked_at)]
        listed.add_row(*("–" if cell is None else str(cell) for cell in cells))
    return listed


def _instant(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
