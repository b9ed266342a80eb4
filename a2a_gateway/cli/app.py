"""The tree of commands, and the only place where a failure becomes a line of output and an exit code."""

from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from a2a_gateway.cli import ask, demo, doctor, keys, llms, peer, profiles, runs, serve, spend
from a2a_gateway.cli.command_error import DATABASE_REMEDY, EXIT_FAILED, EXIT_INTERRUPTED, CommandError
from a2a_gateway.cli.screen import show_error
from a2a_gateway.errors import GatewayError, StoreError


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CommandError as error:
            show_error(error.message, error.remedy)
            raise typer.Exit(error.exit_code) from None
        except StoreError as error:
            show_error(error.message, DATABASE_REMEDY)
            raise typer.Exit(EXIT_FAILED) from None
        except GatewayError as error:
            show_error(error.message)
            raise typer.Exit(EXIT_FAILED) from None
        except BrokenPipeError:
            raise  # the reader of the output has closed it, so there is nothing to report
        except OSError as error:
            show_error(f"{f'{error.filename}: ' if error.filename else ''}{error.strerror or error}.")
            raise typer.Exit(EXIT_FAILED) from None
        except KeyboardInterrupt:
            raise typer.Exit(EXIT_INTERRUPTED) from None


def _show_version(wanted: bool) -> None:
    if wanted:
        print(version("a2a-gateway"))
        raise typer.Exit


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
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
app.add_typer(runs.app, name="runs")
app.add_typer(keys.app, name="keys")
app.add_typer(profiles.app, name="profiles")
app.add_typer(llms.app, name="llms")
app.add_typer(peer.app, name="peer")
app.command("spend")(spend.spend)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)
