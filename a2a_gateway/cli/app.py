"""The tree of commands, and the only place where a failure becomes a line of output and an exit code."""

from importlib.metadata import version
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from a2a_gateway.cli import ask, chat, demo, doctor, keys, peer, profiles, runs, serve, spend
from a2a_gateway.cli.command_error import DATABASE_REMEDY, EXIT_INTERRUPTED, EXIT_USAGE, CommandError
from a2a_gateway.cli.screen import show_error, show_json
from a2a_gateway.errors import GatewayError, StoreError

_WANTS_JSON: Final = "a2a_gateway.wants_json"
_UsageError: Final[Any] = typer.BadParameter.__base__  # typer has no public name for it


class _Commands(TyperGroup):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # `serve --json` announces its start as one line, and nothing else.
        ctx.meta[_WANTS_JSON] = "--json" in args and "serve" not in args[:1]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        wants_json = ctx.meta[_WANTS_JSON]
        try:
            return super().invoke(ctx)
        except CommandError as error:
            failure = error
        except StoreError as error:
            failure = CommandError(error.message, DATABASE_REMEDY, code=error.code)
        except GatewayError as error:
            failure = CommandError(error.message, code=error.code)
        except BrokenPipeError:
            raise  # the reader of the output has closed it, so there is nothing to report
        except OSError as error:
            failure = CommandError(f"{f'{error.filename}: ' if error.filename else ''}{error.strerror or error}.")
        except KeyboardInterrupt:
            if wants_json:
                show_json(CommandError("Interrupted.", exit_code=EXIT_INTERRUPTED).as_json())
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except _UsageError as error:
            if wants_json:
                show_json(CommandError(error.format_message(), exit_code=EXIT_USAGE).as_json())
            raise  # typer prints the usage
        if wants_json:
            show_json(failure.as_json())
        show_error(failure.message, failure.remedy)
        raise typer.Exit(failure.exit_code)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(version("a2a-gateway"))
        raise typer.Exit


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="OpenHands agents served as OpenAI-compatible models, which delegate to each other.",
    epilog="Settings come from options, then A2A_* in the environment, then gateway.toml.",
)


@app.callback()
def _root(
    _: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


app.command("serve")(serve.serve)
app.command("ask")(ask.ask)
app.command("chat")(chat.chat)
app.add_typer(runs.app, name="runs")
app.add_typer(keys.app, name="keys")
app.add_typer(profiles.app, name="profiles")
app.add_typer(peer.app, name="peer")
app.command("spend")(spend.spend)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)
