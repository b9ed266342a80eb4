"""`a2a-gateway profiles`: list the agents that a gateway with these settings would serve, and the errors of the others."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from a2a_gateway.cli.command_error import EXIT_FAILED
from a2a_gateway.cli.options import ConfigOption, DataDirOption, JsonOption, ProfilesOption, read_settings
from a2a_gateway.cli.screen import note, show, show_json, show_spinner, table

if TYPE_CHECKING:
    from a2a_gateway.agents.profiles.catalogue import ProfileCatalog
    from a2a_gateway.runs.model import Profile, ProfileProblem
    from a2a_gateway.settings import Settings

app = typer.Typer(no_args_is_help=True, help="List and check the agents.")


@app.command("list")
def list_profiles(
    profiles: ProfilesOption = None, data_dir: DataDirOption = None, config: ConfigOption = None, json_output: JsonOption = False
) -> None:
    """List the agents that would be served."""
    catalog = load_catalog(read_settings(config, data_dir=data_dir, profiles=profiles))
    found = catalog.list()
    if json_output:
        show_json([_as_json(profile) for profile in found])
    elif found:
        show(_as_table(found))
    else:
        note("No agent is configured. Set LLM_MODEL and LLM_API_KEY, or write a profile as docs/profiles.md describes.")
    broken = [problem for problem in catalog.problems() if not problem.is_warning]
    if broken and not json_output:
        note(f"{len(broken)} profiles cannot be used; `a2a-gateway profiles check` reports why.")


@app.command()
def check(
    profiles: ProfilesOption = None, data_dir: DataDirOption = None, config: ConfigOption = None, json_output: JsonOption = False
) -> None:
    """Report errors with file and line; exit with 1 if a profile cannot be used."""
    catalog = load_catalog(read_settings(config, data_dir=data_dir, profiles=profiles))
    problems = catalog.problems()
    if json_output:
        show_json([_problem_as_json(problem) for problem in problems])
    else:
        for problem in problems:
            show(describe_problem(problem))
        note(f"{len(catalog.list())} can be used, {len(problems)} problems.")
    if not all(problem.is_warning for problem in problems):
        raise typer.Exit(EXIT_FAILED)


def load_catalog(settings: "Settings") -> "ProfileCatalog":
    """Load all profiles, and for that the SDK, which takes seconds.

    Raises:
        ConfigurationError: saved secrets cannot be decrypted.
    """
    with show_spinner("Loading OpenHands"):
        from a2a_gateway.agents.loading import load_agents_side
        from a2a_gateway.agents.profiles.llm_environment import LLMEnvironment

        load_agents_side(owns_process=True)
        from a2a_gateway.agents.profiles.catalogue import ProfileCatalog

        return ProfileCatalog(settings, LLMEnvironment.read(os.environ))


def describe_problem(problem: "ProfileProblem") -> str:
    """Render a problem as compilers do: path, line, message."""
    where = f"{problem.path}{f':{problem.line}' if problem.line else ''}"
    return f"{where}: {'warning: ' if problem.is_warning else ''}{problem.message}"


def _problem_as_json(problem: "ProfileProblem") -> dict[str, object]:
    severity = "warning" if problem.is_warning else "error"
    return {"path": problem.path, "line": problem.line, "message": problem.message, "severity": severity}


def _as_json(profile: "Profile") -> dict[str, object]:
    from a2a_gateway.wire.models import render_model

    described = render_model(profile, created=0)
    shown = ("id", "description", "context_length", "max_output_tokens", "price_source", "capabilities", "limits")
    return {"name": profile.name, **{name: described[name] for name in shown}, "llm": profile.llm_model, "source": profile.source}


def _as_table(profiles: "Sequence[Profile]") -> Table:
    listed = table(
        *("model", "LLM", "tools", "source", "description"),
        wraps=("tools", "source", "description"),
        optional=("source", "tools", "description"),
    )
    for profile in profiles:
        listed.add_row(profile.model, profile.llm_model, ", ".join(profile.tools), profile.source, profile.description)
    return listed
