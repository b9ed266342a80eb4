"""Which systems a gateway runs on: shells, locks and limits need `fcntl`, `pty` and `resource`, which Windows has not."""

import sys


def require_supported_system() -> None:
    """Do nothing on Linux and macOS.

    Raises:
        ImportError: this is Windows; otherwise the import of `fcntl` would be the first to fail.
    """
    if sys.platform == "win32":
        raise ImportError("a2a-gateway runs on Linux and macOS; on Windows, run it inside WSL 2 (Windows Subsystem for Linux).")
