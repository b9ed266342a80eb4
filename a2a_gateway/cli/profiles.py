"""`a2a-gateway profiles`: list the agents that a gateway with these settings serves, and the errors of the others."""

import os
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table

from a2a_gateway.cli.command_error import EXIT_FAILED, EXIT_USAGE, LLM_REMEDY, CommandError
from a2a_gateway.cli.options import ConfigOption, DataDirOption, JsonOption, KeyOption, ProfilesOption, UrlOption, read_settings
from a2a_gateway.cli.screen import note, show, show_json, show_spinner, table

if TYPE_CHECKING:
    from a2a_gateway.agents.profiles.catalogue import ProfileCatalog
    from a2a_gateway.cli.gateway_responses import ListedProfile, ProfileListing
    from a2a_gateway.settings import Settings

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NO_NAMES: Final = frozenset({"self", "readme"})
"""`self` is the caller's own profile in a delegation, and a README is not read as a profile."""

app = typer.Typer(no_args_is_help=True, help="List, check and write profiles of agents.")


@app.command("list")
def list_profiles(
    profiles: ProfilesOption = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    key: KeyOption = None,
    json_output: JsonOption = False,
) -> None:
    """List the agents. Without --config, a running gateway that serves these directories is asked."""
    settings = read_settings(config, data_dir=data_dir, profiles=profiles)
    listing, served_by = find_profiles(settings, url, key, chosen=bool(profiles), config=config)
    if served_by is not None:
        note(f"As served by {served_by}.")
    if json_output:
        show_json([_as_json(profile) for profile in listing.data])
    elif listing.data:
        show(_as_table(listing.data))
    else:
        note(f"No agent is configured. {LLM_REMEDY}")
    broken = [problem for problem in listing.problems if problem.severity == "error"]
    if broken and not json_output:
        note(f"Profiles that cannot be used: {len(broken)}. `a2a-gateway profiles check` reports why.")


@app.command()
def check(
    profiles: ProfilesOption = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    key: KeyOption = None,
    json_output: JsonOption = False,
) -> None:
    """Report errors with file and line; exit with 1 if a profile cannot be used."""
    settings = read_settings(config, data_dir=data_dir, profiles=profiles)
    listing, served_by = find_profiles(settings, url, key, chosen=bool(profiles), config=config)
    if served_by is not None:
        note(f"As served by {served_by}.")
    if json_output:
        show_json([problem.model_dump() for problem in listing.problems])
    else:
        for problem in listing.problems:
            show(str(problem))
        note(f"Agents that can be used: {len(listing.data)}. Problems: {len(listing.problems)}.")
    if any(problem.severity == "error" for problem in listing.problems):
        raise typer.Exit(EXIT_FAILED)


class Template(StrEnum):
    """The profiles that ship."""

    LEAD = "lead"
    RESEARCHER = "researcher"
    CODER = "coder"
    REVIEWER = "reviewer"


@app.command()
def init(
    name: Annotated[str | None, typer.Argument(help="Name of the agent; without it, the four that ship are written.")] = None,
    template: Annotated[Template | None, typer.Option("--from", help="Begin with this profile; default the one of NAME.")] = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Where; default the first directory of the setting `profiles`.")
    ] = None,
    config: ConfigOption = None,
    json_output: JsonOption = False,
) -> None:
    """Write a profile with comments; or a team of four: lead, researcher, coder, reviewer. Nothing is overwritten."""
    if name is None and template is not None:
        raise CommandError(
            "--from needs a name for the agent.", f"Run `profiles init NAME --from {template}`.", exit_code=EXIT_USAGE
        )
    if name is not None and (not _NAME.fullmatch(name) or name.lower() in _NO_NAMES):
        remedy = "Use 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit."
        raise CommandError(f"{name!r} cannot be the name of an agent.", remedy, exit_code=EXIT_USAGE)
    directory = directory or next(iter(read_settings(config).profiles), Path("profiles"))
    wanted = {each.value: each for each in Template} if name is None else {name: template or _template_of(name)}
    written = _write_profiles(directory.expanduser(), wanted)
    if json_output:
        show_json([str(path) for path in written])
        return
    for path in written:
        show(f"Wrote {path}")
    agent = name or Template.LEAD.value
    note(f"Next: edit {'it' if name else 'them'}, and run `a2a-gateway profiles check` and `a2a-gateway serve`.")
    note(f'A gateway that runs already serves new files within a second: `a2a-gateway ask openhands_{agent} "…"`.')


def _template_of(name: str) -> Template | None:
    return Template(name) if name in Template else None


def _write_profiles(directory: Path, wanted: "Mapping[str, Template | None]") -> list[Path]:
    from a2a_gateway.cli.profile_templates import render_profile

    directory.mkdir(parents=True, exist_ok=True)
    beside = {path.stem for path in directory.glob("*.md")}
    written = []
    for name, template in wanted.items():
        path = directory / f"{name}.md"
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(render_profile(name, template, beside | wanted.keys()))
        except FileExistsError:
            note(f"{path} exists already, and stays as it is.")
        else:
            written.append(path)
    if not written:
        raise CommandError(
            "No profile was written.", "Choose another name, or another directory with --dir.", exit_code=EXIT_USAGE
        )
    return written


def find_profiles(
    settings: "Settings", url: str | None, key: str | None, *, chosen: bool, config: Path | None
) -> "tuple[ProfileListing, str | None]":
    """Return the profiles, and the URL of the gateway that serves them; None if they were read here.

    Args:
        chosen: whether the profiles of these directories are wanted, also if another gateway is named.
        config: the settings file that an option names. A running gateway may have another one, so it is not asked then.

    Raises:
        ConfigurationError: saved secrets cannot be decrypted.
    """
    served = None if config else _served_profiles(settings, url, key, chosen=chosen)
    return (_read_profiles(settings), None) if served is None else (served, url or settings.own_url)


def _served_profiles(settings: "Settings", url: str | None, key: str | None, *, chosen: bool) -> "ProfileListing | None":
    """Ask a gateway that serves the same directories, or that was named, so that the SDK need not be loaded."""
    from a2a_gateway.cli.gateway_client import RemoteGateway

    if not key:
        return None
    try:
        with RemoteGateway(url or settings.own_url, key, own_url=settings.own_url) as gateway:
            listing = gateway.profiles()
    except CommandError as error:
        if url is not None and not chosen:
            note(f"{error} The profiles are read here.")
        return None
    is_same = listing.directories == [str(directory) for directory in settings.profile_dirs]
    return listing if is_same or (url is not None and not chosen) else None


def _read_profiles(settings: "Settings") -> "ProfileListing":
    from a2a_gateway.cli.gateway_responses import ProfileListing
    from a2a_gateway.wire.models import render_profiles

    catalog = load_catalog(settings)
    rendered = render_profiles(catalog.list(), catalog.problems(), settings.profile_dirs, created=0)
    return ProfileListing.model_validate(rendered)


def load_catalog(settings: "Settings") -> "ProfileCatalog":
    """Load all profiles, and for that the SDK, which takes seconds.

    Raises:
        ConfigurationError: saved secrets cannot be decrypted.
    """
    with show_spinner("Loading OpenHands…"):
        from a2a_gateway.agents.loading import load_agents_side
        from a2a_gateway.agents.profiles.llm_environment import LLMEnvironment

        load_agents_side(owns_process=True)
        from a2a_gateway.agents.profiles.catalogue import ProfileCatalog

        return ProfileCatalog(settings, LLMEnvironment.read(os.environ))


def _as_json(profile: "ListedProfile") -> dict[str, object]:
    without = {"object", "created", "owned_by", "max_model_len"}
    return {name: value for name, value in profile.model_dump().items() if name not in without}


def _as_table(profiles: "Sequence[ListedProfile]") -> Table:
    listed = table(
        *("model", "LLM", "tools", "source", "description"),
        wraps=("tools", "source", "description"),
        optional=("source", "tools", "description"),
    )
    for profile in profiles:
        listed.add_row(profile.id, profile.llm, ", ".join(profile.tools), profile.source, profile.description)
    return listed
