"""`python -m a2a_gateway`, and the console script `a2a-gateway`."""

import signal
import sys
from collections.abc import Callable
from io import TextIOWrapper

from a2a_gateway.host.supported_systems import require_supported_system


def main() -> None:
    """Run the command line.

    While modules are imported, and while Python shuts down, Ctrl-C ends the process at once: as an exception it would print a
    traceback.
    """
    try:
        require_supported_system()
    except ImportError as error:
        sys.exit(str(error))
    _set_ctrl_c(signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # an answer may contain characters that the terminal's encoding lacks
    from a2a_gateway.cli.app import app
    from a2a_gateway.cli.command_error import EXIT_INTERRUPTED

    try:
        _set_ctrl_c(signal.default_int_handler)
        app(prog_name="a2a-gateway")
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None
    finally:
        _set_ctrl_c(signal.SIG_DFL)


def _set_ctrl_c(action: Callable[..., object] | signal.Handlers) -> None:
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # which a shell sets for what runs in the background
        signal.signal(signal.SIGINT, action)


if __name__ == "__main__":
    main()
