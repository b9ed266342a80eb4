"""`python -m a2a_gateway`, and the console script `a2a-gateway`."""

import sys
from io import TextIOWrapper

from a2a_gateway.cli.command_error import EXIT_INTERRUPTED
from a2a_gateway.host.supported_systems import require_supported_system


def main() -> None:
    """Run the command line."""
    try:
        require_supported_system()
    except ImportError as error:
        sys.exit(str(error))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # an answer may contain characters that the terminal's encoding lacks
    try:
        from a2a_gateway.cli.app import app  # not above: Ctrl-C during the import must not print a traceback

        app(prog_name="a2a-gateway")
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None


if __name__ == "__main__":
    main()
