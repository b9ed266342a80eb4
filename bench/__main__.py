"""Measure, print a table, and write bench-results.json: `python -m bench`."""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from bench.figures import Figure
from bench.measures import all_measures, measure_start
from bench.processes import Processes, start_processes
from bench.stage import open_stage

# The gateway sets the same variables, so that the ratios do not measure LiteLLM's slower transport.
_SDK_ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER": "true",
    "OPENHANDS_SUPPRESS_BANNER": "1",
    "LOG_AUTO_CONFIG": "false",
}
_WIDTH = 160
_PACKAGES = ("openhands-sdk", "litellm", "fastapi", "uvicorn")


def main() -> None:
    """Run the benchmark. With --check, exit with 1 if a bar was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=main.__doc__)
    parser.add_argument("--only", nargs="*", metavar="NAME", help="measure only these (and the start, which everything needs)")
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bar was missed")
    parser.add_argument("--json", type=Path, default=Path("bench-results.json"), metavar="FILE")
    options = parser.parse_args()
    console = Console(stderr=True)
    os.environ |= _SDK_ENVIRONMENT
    with tempfile.TemporaryDirectory(prefix="a2a-bench-") as home, start_processes(Path(home)) as processes:
        measuring = _measure(processes, Path(home), only=options.only, quick=options.quick, console=console)
        figures = asyncio.run(measuring, loop_factory=uvloop.new_event_loop)
    options.json.write_text(json.dumps(_document(figures), indent=2) + "\n")
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(_table(figures))
    console.print(f"Written to {options.json}.")
    sys.exit(1 if options.check and any(figure.ok is False for figure in figures) else 0)


async def _measure(
    processes: Processes, home: Path, *, only: Sequence[str] | None, quick: bool, console: Console
) -> list[Figure]:
    async with open_stage(processes) as stage:
        console.print("start …")
        figures = await measure_start(stage)
        # Imported late, because importing the SDK here would slow down the gateway's start.
        from bench.bare import BareAgent

        bare = BareAgent(processes.llm_url, home)
        await bare.warm_up()
        for name, measure in all_measures(bare.run, quick=quick):
            if not only or name in only:
                console.print(f"{name} …")
                figures += await measure(stage)
    return figures


def _table(figures: Sequence[Figure]) -> Table:
    table = Table(title="a2a-gateway, measured against the scripted LLM")
    for column in ("figure", "floor", "", "measured", "ratio", "bar"):
        table.add_column(column, justify="left" if column in ("figure", "floor") else "right")
    table.add_column("")
    table.add_column("samples", justify="right")
    for figure in figures:
        floor, at = ("", "") if figure.floor is None else (figure.floor.name, f"{figure.floor.value:.4g} {figure.unit}")
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f} ×"
        verdict = {True: "[green]ok", False: "[red]missed", None: ""}[figure.ok]
        measured = f"{figure.value:.4g} {figure.unit}"
        table.add_row(figure.name, floor, at, measured, ratio, _bar(figure), verdict, str(figure.samples))
    return table


def _bar(figure: Figure) -> str:
    if figure.bar is None:
        return ""
    return f"{'≤' if figure.better == 'lower' else '≥'} {figure.bar:g} {figure.unit if figure.floor is None else '×'}"


def _document(figures: Sequence[Figure]) -> dict[str, object]:
    return {
        "machine": {"cores": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "versions": {name: version(name) for name in _PACKAGES},
        "figures": [asdict(figure) | {"ratio": figure.ratio, "ok": figure.ok} for figure in figures],
    }


if __name__ == "__main__":
    main()
