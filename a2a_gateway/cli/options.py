"""Options that several commands share, and the settings that result from them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from a2a_gateway.cli.command_error import EXIT_USAGE, CommandError

if TYPE_CHECKING:
    from a2a_gateway.settings import Settings

ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings file; default ./gateway.toml if it exists.")
]
DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", metavar="DIR", help="Keys, runs and workspaces of the gateway.")
]
ProfilesOption = Annotated[
    list[Path] | None, typer.Option("--profiles", metavar="DIR", help="Directory of markdown profiles; may be repeated.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
UrlOption = Annotated[
    str | None,
    typer.Option("--url", envvar="A2A_BASE_URL", help="Base URL of the gateway; default the local one of the settings."),
]
KeyOption = Annotated[str | None, typer.Option("--key", envvar="A2A_API_KEY", show_envvar=True, help="API key for the gateway.")]


def read_settings(config: Path | None, **overrides: object) -> "Settings":
    """Read the settings. An option that was not given (None, or an empty list) leaves a setting as it is.

    Raises:
        ConfigurationError: the settings cannot be used.
    """
    from a2a_gateway.settings import load_settings

    return load_settings(config, **{name: value for name, value in overrides.items() if value not in (None, [])})


def resolve_directory(option: str, path: Path) -> str:
    """Return the absolute path of an existing directory that an option names, without links.

    Raises:
        CommandError: it is not a directory.
    """
    resolved = path.expanduser().resolve()
    if not resolved.is_dir():
        raise CommandError(f"{option} {path}: it is not a directory.", "Create it, or name another.", exit_code=EXIT_USAGE)
    return str(resolved)


def parse_budget(text: str | None, option: str = "--budget-usd") -> int | None:
    """Parse an amount of USD from an option, in micro-USD.

    Raises:
        CommandError: the text is not an amount.
    """
    from delegate_tool.protocol.money import parse_usd

    try:
        return None if text is None else parse_usd(text)
    except ValueError as error:
        raise CommandError(f"{option}: {error}.", "Give an amount such as 0.50.", exit_code=EXIT_USAGE, param=option) from None
