"""Execute the actions of the terminal tool in a shell of the pool. The observations are the SDK's.

The shell is taken at the first command, so an agent that never uses its terminal needs none. It ends with the run. Nothing is
written outside of the shell's own directory. The SDK would write a log of the full output, from the gateway's process.
"""

import shlex
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, assert_never

from openhands.sdk.llm import TextContent
from openhands.sdk.tool import ToolExecutor
from openhands.sdk.utils import maybe_truncate
from openhands.tools.terminal import TerminalAction, TerminalObservation
from openhands.tools.terminal.constants import MAX_CMD_OUTPUT_SIZE, NO_CHANGE_TIMEOUT_SECONDS, TIMEOUT_MESSAGE_TEMPLATE
from openhands.tools.terminal.definition import looks_like_python_literal_argument
from openhands.tools.terminal.metadata import CmdOutputMetadata

from a2a_gateway.host.keystrokes import keystrokes
from a2a_gateway.host.shell import CommandOutcome, Done, Ended, Interrupted, Running, Shell, ShellError
from a2a_gateway.host.shell_pool import ShellPool
from a2a_gateway.runs.model import RunId

if TYPE_CHECKING:
    from openhands.sdk.conversation import LocalConversation

_STILL_RUNS: Final = (
    'Your command "{command}" is NOT executed. The previous command is still running - you CANNOT send new commands until it has '
    "ended. With `is_input` set to `true` you can interact with it. " + TIMEOUT_MESSAGE_TEMPLATE
)
_RESET: Final = "Terminal session has been reset. All previous environment variables and session state have been cleared."
_LITERAL: Final = (
    "The `command` argument looks like a Python/JSON {kind}, not a shell command. Pass exactly one shell command; for structured "
    "data or longer code write a file first, or use a heredoc."
)


class PooledTerminal(ToolExecutor[TerminalAction, TerminalObservation]):
    """A terminal in one workspace, for one run."""

    def __init__(
        self,
        pool: ShellPool,
        workspace_dir: str,
        *,
        run_id: RunId | None = None,
        quiet_s: float = NO_CHANGE_TIMEOUT_SECONDS,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """`quiet_s` is the time without output after which a call returns; `env` is set in the shell."""
        self._pool = pool
        self._run_id = run_id
        self._quiet_s = quiet_s
        exports = [f"export {name}={shlex.quote(value)}" for name, value in (env or {}).items()]
        self._enter = " && ".join([*exports, f"cd -- {shlex.quote(workspace_dir)}"])
        self._turn = threading.Lock()
        self._state = threading.Lock()
        self._shell: Shell | None = None
        self._busy = self._closed = False

    def __call__(self, action: TerminalAction, conversation: "LocalConversation | None" = None) -> TerminalObservation:
        """Run a command, or send input to the running one."""
        with self._turn:
            try:
                return self._reset(action) if action.reset else self._execute(action)
            except ShellError as error:
                self._release_shell()
                return _refusal(action, str(error))

    def interrupt(self) -> None:
        """Interrupt the running command; return immediately."""
        shell = self._shell
        if shell is not None:
            shell.interrupt()

    def close(self) -> None:
        """End the shell and all processes that it started. Blocks until they have ended."""
        with self._state:
            self._closed = True
        self._release_shell()

    def _reset(self, action: TerminalAction) -> TerminalObservation:
        if action.is_input:
            return _refusal(action, "`reset` cannot be used with `is_input`.")
        self._release_shell()
        if not action.command.strip():
            return TerminalObservation.from_text(_RESET, command="[RESET]", exit_code=0)
        observation = self._execute(action)
        content = [TextContent(text=f"{_RESET}\n\n{observation.text}")]
        return observation.model_copy(update={"content": content, "command": f"[RESET] {action.command}"})

    def _execute(self, action: TerminalAction) -> TerminalObservation:
        command, continues = action.command.strip(), self._busy
        kind = None if action.is_input else looks_like_python_literal_argument(command)
        if kind is not None:
            return _refusal(action, _LITERAL.format(kind=kind))
        if continues and command and not action.is_input:
            return self._execute_after_earlier(action)
        if not continues and (action.is_input or not command):
            return _refusal(action, "No previous running command to interact with.")
        shell = self._acquire_shell()
        if not continues:
            shell.run(command)
        elif command:
            shell.type(keystrokes(action.command))
        outcome = shell.wait(timeout_s=action.timeout, quiet_s=self._quiet_s)
        return self._observe(action, outcome, continues=continues)

    def _execute_after_earlier(self, action: TerminalAction) -> TerminalObservation:
        """Refuse a command because another is running. If that has ended, run it, with the other's last output before its own."""
        outcome = self._acquire_shell().wait(timeout_s=0, quiet_s=0)
        if isinstance(outcome, Running):
            return _refusal(action, _STILL_RUNS.format(command=action.command), outcome.output)
        earlier = self._observe(action, outcome, continues=True)
        observation = self._execute(action)
        observation.metadata.prefix = f"{earlier.metadata.prefix}{earlier.text}{earlier.metadata.suffix}\n"
        return observation

    def _observe(self, action: TerminalAction, outcome: CommandOutcome, *, continues: bool) -> TerminalObservation:
        metadata = CmdOutputMetadata(prefix="[Below is the output of the previous command.]\n" if continues else "")
        self._busy = isinstance(outcome, Running)
        match outcome:
            case Done(report=report):
                metadata.exit_code, metadata.working_dir = report.exit_code, report.working_dir
                metadata.suffix = f"\n[The command completed with exit code {report.exit_code}.]"
            case Running(quiet=True):
                metadata.suffix = f"\n[The command has no new output after {self._quiet_s:g} seconds. {TIMEOUT_MESSAGE_TEMPLATE}]"
            case Running():
                metadata.suffix = f"\n[The command timed out after {action.timeout:g} seconds. {TIMEOUT_MESSAGE_TEMPLATE}]"
            case Interrupted():
                self._release_shell()
                metadata.suffix = "\n[The command was interrupted. The next command starts in a new shell, in the workspace.]"
            case Ended(exit_code=exit_code):
                self._release_shell()
                metadata.exit_code = exit_code
                metadata.suffix = "\n[The shell itself ended. The next command starts in a new one, in the workspace.]"
            case _:
                assert_never(outcome)
        text = maybe_truncate(outcome.output.strip("\n"), truncate_after=MAX_CMD_OUTPUT_SIZE)
        return TerminalObservation.from_text(text, command=action.command, exit_code=metadata.exit_code, metadata=metadata)

    def _acquire_shell(self) -> Shell:
        """Return the run's shell, in its workspace; take one from the pool at the first command, and after a shell has ended."""
        if self._shell is not None and not self._shell.alive and not self._busy:
            self._release_shell()
        if self._shell is None:
            shell = self._pool.take(self._run_id)
            with self._state:
                if not self._closed:
                    self._shell = shell
            if self._shell is None:
                self._pool.release(shell)
                raise ShellError("The run has ended.")
            shell.run(self._enter)
            entered = shell.wait(timeout_s=None, quiet_s=NO_CHANGE_TIMEOUT_SECONDS)
            if not isinstance(entered, Done) or entered.report.exit_code != 0:
                raise ShellError(f"The shell cannot enter the workspace: {entered.output.strip()}")
        return self._shell

    def _release_shell(self) -> None:
        with self._state:
            shell, self._shell = self._shell, None
        self._busy = False
        if shell is not None:
            shell.interrupt()
            self._pool.release(shell)


def _refusal(action: TerminalAction, reason: str, output: str = "") -> TerminalObservation:
    text = f"{output}\n[{reason}]".lstrip("\n")
    return TerminalObservation.from_text(text, command=action.command, is_error=True, exit_code=-1)
