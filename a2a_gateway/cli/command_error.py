"""Errors of commands: what is wrong, what to do about it, and the exit code."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from a2a_gateway.errors import AuthenticationError, LLMAuthFailed, ModelNotFound, NotReady, RouteNotFound, RunNotFound
from delegate_tool.protocol.codes import REFUSALS
from delegate_tool.protocol.fields import Header

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_LIMITED: Final = 3
EXIT_REFUSED: Final = 4
EXIT_INTERRUPTED: Final = 130
"""The exit code by which a shell reports a program that SIGINT ended."""
LLM_REMEDY: Final = "Add an LLM to [[llms]] in gateway.toml, or set LLM_MODEL and LLM_API_KEY; see docs/llms.md."
DATABASE_REMEDY: Final = "Check that the database is running, and that database_url (A2A_DATABASE_URL) is right."


class CommandError(Exception):
    """A command failed.

    Args:
        message: what is wrong, in a sentence.
        remedy: what to do about it, in a sentence; empty if `message` contains it.
        code: for scripts; derived from `exit_code` if it is empty.
        outcome: what `--json` prints beside the error, such as the run that failed.
    """

    def __init__(
        self,
        message: str,
        remedy: str = "",
        *,
        exit_code: int = EXIT_FAILED,
        code: str = "",
        param: str | None = None,
        outcome: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.exit_code = exit_code
        self.code = code or _CODES.get(exit_code, "command_failed")
        self.param = param
        self.outcome: Mapping[str, object] = outcome or {}

    def as_json(self) -> dict[str, object]:
        """Return what `--json` prints for the error."""
        error = {"code": self.code, "message": self.message, "remedy": self.remedy or None, "param": self.param}
        return {**self.outcome, "error": error}


class RemoteError(CommandError):
    """An error that a gateway answered with.

    Args:
        run_id: the run that failed; empty if none had begun, or if it is not known.
    """

    def __init__(self, message: str, *, code: str, status: int, param: str | None = None, run_id: str = "") -> None:
        exit_code = EXIT_REFUSED if status in REFUSALS or code == AuthenticationError.code else EXIT_FAILED
        if param in _OPTIONS:
            message, param = message.replace(param, _OPTIONS[param]), _OPTIONS[param]
            exit_code = EXIT_USAGE if status == HTTPStatus.BAD_REQUEST else exit_code
        super().__init__(message, _REMEDIES.get(code, ""), exit_code=exit_code, code=code, param=param)
        self.run_id = run_id


_OPTIONS: Final[Mapping[str, str]] = {
    Header.BUDGET_USD: "--budget-usd",
    Header.MAX_DEPTH: "--max-depth",
    Header.TIMEOUT: "--timeout",
    Header.CONVERSATION_ID: "--conversation",
    Header.WORKSPACE: "--workspace",
}
"""The options that become these headers: a person has written the option."""
_CODES: Final = {EXIT_USAGE: "wrong_usage", EXIT_INTERRUPTED: "interrupted"}


_REMEDIES: Final = {
    AuthenticationError.code: "Set A2A_API_KEY or pass --key.",
    ModelNotFound.code: "`a2a-gateway profiles list` lists the agents, and `profiles check` reports errors of profiles.",
    RunNotFound.code: "`a2a-gateway runs list` shows the latest trees of this key.",
    LLMAuthFailed.code: "Check LLM_API_KEY, or the key saved with the LLM profile, and start the gateway again.",
    RouteNotFound.code: "Check the URL: a gateway's ends in /v1.",
    NotReady.code: "Try again in a few seconds.",
}
