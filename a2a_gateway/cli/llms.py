"""`a2a-gateway llms`: list the LLMs of the agents, and call each once to see whether it answers."""

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table
from rich.text import Text

from a2a_gateway.cli.command_error import EXIT_FAILED, EXIT_USAGE, LLM_REMEDY, CommandError
from a2a_gateway.cli.options import ConfigOption, DataDirOption, JsonOption, ProfilesOption, read_settings
from a2a_gateway.cli.screen import note, show, show_json, show_spinner, table
from a2a_gateway.errors import (
    ContextLengthExceeded,
    LLMAuthFailed,
    LLMBadRequest,
    LLMNotFound,
    LLMRateLimited,
    LLMUnavailable,
)
from delegate_tool.protocol.text import did_you_mean

if TYPE_CHECKING:
    from a2a_gateway.agents.llm_check import CheckResult
    from a2a_gateway.agents.profiles.llm_list import KeySource, ListedLLM
    from a2a_gateway.settings import Settings

app = typer.Typer(no_args_is_help=True, help="List the LLMs of the agents, and check that they answer.")

_CORRECT: Final = "Correct its entry in gateway.toml, its variables, or its file; docs/llms.md has an example for each provider."
_REMEDIES: Final = {
    "tls": "Check base_url: http or https? SSL_CERT_FILE names the certificates that are trusted.",
    "unknown_host": "Check the host name in base_url.",
    "refused": "Start the server, or correct base_url: no process listens there.",
    "timeout": "Try again with a longer --timeout; a local server may still be loading the model.",
    "quota": "Add money to the account at the provider.",
    "tools": "Agents need tools: start vLLM with --enable-auto-tool-choice and --tool-call-parser, or use a model that has them.",
    LLMNotFound.code: "Check model. The base_url of an OpenAI-compatible server usually ends in /v1.",
    LLMRateLimited.code: "Try again later, or raise the limit at the provider.",
    ContextLengthExceeded.code: "Load the model with a larger context.",
    LLMBadRequest.code: _CORRECT,
    LLMUnavailable.code: "Try again later.",
}
"""Remedies by the cause of a failure, or by its code."""
_ONE_CENT: Final = Decimal("0.01")


@app.command("list")
def list_llms(
    profiles: ProfilesOption = None, data_dir: DataDirOption = None, config: ConfigOption = None, json_output: JsonOption = False
) -> None:
    """List the LLMs, where their keys come from, what they cost, and which agents use them."""
    found = _load(read_settings(config, data_dir=data_dir, profiles=profiles))
    if json_output:
        show_json([_as_json(llm) for llm in found])
        return
    if not found:
        note(f"No LLM is configured. {LLM_REMEDY}")
        return
    show(_as_table(found))
    for llm in found:
        for remark in (llm.problem, *llm.warnings):
            if remark:
                note(f"{llm.name}: {remark}.")


@app.command()
def check(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="LLMs of `llms list`; default all.")] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=1, max=600, help="The longest wait for an answer.")
    ] = 30.0,
    profiles: ProfilesOption = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
    json_output: JsonOption = False,
) -> None:
    """Call each LLM once, with a tool and for a short answer; exit with 1 if one fails."""
    chosen = _choose(_load(read_settings(config, data_dir=data_dir, profiles=profiles)), names or [])
    from a2a_gateway.agents.llm_check import check_llms, most_usd

    recipes = [llm.recipe for llm in chosen if llm.recipe is not None]
    note(_announcement([most_usd(recipe) for recipe in recipes]))
    with show_spinner("Waiting for answers"):
        results = iter(asyncio.run(check_llms(recipes, timeout_s)))
    checked = [(llm, None if llm.recipe is None else next(results)) for llm in chosen]
    if json_output:
        show_json([_result_as_json(llm, result) for llm, result in checked])
    else:
        show(_results_as_table(checked))
        for llm, result in checked:
            for line in _explanation(llm, result):
                show(line)
    if any(result is None or result.failure is not None for _, result in checked):
        raise typer.Exit(EXIT_FAILED)


def _load(settings: "Settings") -> "list[ListedLLM]":
    from a2a_gateway.cli.profiles import load_catalog

    catalog = load_catalog(settings)
    from a2a_gateway.agents.profiles.llm_list import list_llms

    return list_llms(catalog, settings)


def _choose(found: "list[ListedLLM]", names: Sequence[str]) -> "list[ListedLLM]":
    if not found:
        raise CommandError("No LLM is configured.", LLM_REMEDY)
    known = [llm.name for llm in found]
    for name in names:
        if name not in known:
            raise CommandError(
                f"There is no LLM {name!r}{did_you_mean(name, known)}.",
                "`a2a-gateway llms list` shows them.",
                exit_code=EXIT_USAGE,
            )
    return [llm for llm in found if not names or llm.name in names]


def _announcement(costs: "Sequence[Decimal | None]") -> str:
    """Render what the calls may cost, before they are made."""
    known = sum((cost for cost in costs if cost is not None), Decimal(0))
    most = "nothing" if not known else "less than a cent" if known < _ONE_CENT else f"at most ${known:.2f}"
    unknown = sum(1 for cost in costs if cost is None)
    remark = f"; the price of {unknown} is not known" if unknown else ""
    return (
        f"Calling {len(costs)} LLM{'' if len(costs) == 1 else 's'} once, for at most 256 tokens each. This costs {most}{remark}."
    )


def _explanation(llm: "ListedLLM", result: "CheckResult | None") -> list[str]:
    """Render why a call failed, and the remedy."""
    if result is None:
        return [f"\n{llm.name}: {llm.problem}.", _CORRECT]
    return [] if result.failure is None else [f"\n{llm.name}: {result.failure.message}", _remedy(llm, result)]


def _remedy(llm: "ListedLLM", result: "CheckResult") -> str:
    code = result.failure.code if result.failure else ""
    if code == LLMAuthFailed.code:
        return f"Check the key in {llm.key.name}." if llm.key.is_set else f"Set {llm.key.name or 'api_key_env or api_key_file'}."
    return _REMEDIES.get(result.cause or code, _CORRECT)


def _as_table(found: "Sequence[ListedLLM]") -> Table:
    listed = table("name", "LLM")
    for llm in found:
        context = llm.recipe.profile.context_tokens if llm.recipe else None
        server = f"{llm.model or ''} at {llm.base_url}" if llm.base_url else llm.model or ""
        facts = (f"key: {_render_key(llm.key)}", _render_price(llm), f"context {context:,}" if context else "")
        lines = (server, "; ".join(filter(None, facts)), f"used by {', '.join(llm.used_by)}" if llm.used_by else "")
        listed.add_row(llm.name, "\n".join(filter(None, lines)))
    return listed


def _render_key(key: "KeySource") -> str:
    return "none needed" if key.name is None else key.name if key.is_set else f"{key.name} (not set)"


def _render_price(llm: "ListedLLM") -> str:
    if llm.recipe is None:
        return ""
    prices = llm.usd_per_mtok
    if prices is None:
        return "unpriced"
    known = f"USD per Mtok {float(prices[0]):g} in, {float(prices[1]):g} out"
    return {"local": "local, free", "assumed": f"{known} (assumed)"}.get(llm.recipe.profile.price_source or "", known)


def _as_json(llm: "ListedLLM") -> dict[str, object]:
    profile = llm.recipe.profile if llm.recipe else None
    prices = llm.usd_per_mtok
    return {
        "name": llm.name,
        "source": llm.source,
        "model": llm.model,
        "base_url": llm.base_url,
        "key": {"from": llm.key.name, "is_set": llm.key.is_set},
        "price_source": profile.price_source if profile else None,
        "input_usd_per_mtok": prices and float(prices[0]),
        "output_usd_per_mtok": prices and float(prices[1]),
        "context_length": profile.context_tokens if profile else None,
        "max_output_tokens": profile.max_output_tokens if profile else None,
        "used_by": list(llm.used_by),
        "problem": llm.problem,
        "warnings": list(llm.warnings),
    }


def _results_as_table(checked: "Sequence[tuple[ListedLLM, CheckResult | None]]") -> Table:
    listed = table("name", "", "time", "tokens", "cost", "answer", right=("time", "tokens", "cost"))
    for llm, result in checked:
        if result is None:
            listed.add_row(llm.name, Text("broken", "red"))
        elif result.failure is not None:
            listed.add_row(llm.name, Text("failed", "red"), f"{result.latency_s:.1f} s", "", "", result.failure.code)
        else:
            listed.add_row(
                llm.name,
                Text("ok", "green"),
                f"{result.latency_s:.1f} s",
                f"{result.usage.prompt:,}+{result.usage.completion:,}",
                "unknown" if result.cost_usd is None else f"${result.cost_usd:.6f}",
                result.answer[:80] or "(only reasoning)",
            )
    return listed


def _result_as_json(llm: "ListedLLM", result: "CheckResult | None") -> dict[str, object]:
    if result is None:
        return {
            "name": llm.name,
            "ok": False,
            "error": {"code": "configuration_error", "message": llm.problem, "remedy": _CORRECT},
        }
    failure = result.failure
    return {
        "name": llm.name,
        "ok": failure is None,
        "latency_s": round(result.latency_s, 3),
        "answer": result.answer,
        "prompt_tokens": result.usage.prompt,
        "completion_tokens": result.usage.completion,
        "cost_usd": None if result.cost_usd is None else f"{result.cost_usd:.6f}",
        "error": failure and {"code": failure.code, "message": failure.message, "remedy": _remedy(llm, result)},
    }
