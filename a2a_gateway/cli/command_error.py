"""Errors of commands: what is wrong, what to do about it, and the exit code."""

from typing import Final

from delegate_tool.protocol.codes import REFUSALS

EXIT_FAILED: Final = 1
EXIT_LIMITED: Final = 3
EXIT_REFUSED: Final = 4
EXIT_INTERRUPTED: Final = 130
"""The exit code by which a shell reports a program that SIGINT ended."""
DATABASE_REMEDY: Final = "Check that the database is running, and that database_url (A2A_DATABASE_URL) is right."


class CommandError(Exception):
    """A command cannot do what it was asked to.

    Args:
        message: what is wrong, in a sentence.
        remedy: what to do about it, in a sentence; empty if `message` contains it.
    """

    def __init__(self, message: str, remedy: str = "", *, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.exit_code = exit_code


class RemoteError(CommandError):
    """An error that a gateway answered with; `code` is its stable name."""

    def __init__(self, message: str, *, code: str, status: int) -> None:
        refused = status in REFUSALS or code == "invalid_api_key"
        super().__init__(message, _REMEDIES.get(code, ""), exit_code=EXIT_REFUSED if refused else EXIT_FAILED)
        self.code = code


_REMEDIES: Final = {
    "invalid_api_key": "Set A2A_API_KEY or pass --key; `a2a-gateway keys create NAME` makes a key.",
    "model_not_found": "`a2a-gateway profiles list` shows the agents there are, `profiles check` what is wrong with the others.",
    "run_not_found": "`a2a-gateway runs list` shows the latest trees of this key.",
    "llm_auth_failed": "Check LLM_API_KEY, or the key saved with the LLM profile, and start the gateway again.",
    "not_found": "Check the URL: a gateway's ends in /v1.",
    "not_ready": "Try again in a few seconds.",
}
