"""Run one bash on a pseudo-terminal, with a directory of its own, for one run of one agent. Blocking: for threads.

The processes: the gateway starts a keeper (`shell_launch`), which starts bash on the terminal. The keeper ends everything below
bash when bash ends, or when the gateway closes its end of a pipe, the lifeline, by `kill` or by dying.

The life of a shell:

    state          how it begins                                   what it allows
    starting       `Shell.start`                                   `wait` returns `Done` once bash has reported its first prompt
    idle           `wait` returned `Done`                          `run`
    running        `run`                                           `type`, `wait`, `interrupt`
    interrupted    `interrupt`, from any thread                    `wait`, `kill`: unread input might still be executed
    ended          bash has exited, or has closed its terminal     `wait`, `kill`
    killed         `kill`, from any thread and more than once      nothing; all processes have ended, the directory is removed

`wait` returns one outcome each time: `Done`, `Running` (its timeout has passed; call it again), `Interrupted` or `Ended`. A
thread of its own reads the terminal into `TerminalOutput`. Lock order: `_kill_lock` before `_changed`, which protects the
output and the terminal's descriptor.
"""

import contextlib
import fcntl
import os
import pty
import secrets
import selectors
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from a2a_gateway.host.process_tree import MARKER, end_descendants, end_marked
from a2a_gateway.host.terminal_output import Report, TerminalOutput
from a2a_gateway.host.workspaces import remove_tree

_HERE: Final = Path(__file__).parent
_START_TIMEOUT_S: Final = 30.0
_WRITE_TIMEOUT_S: Final = 2.0
_END_TIMEOUT_S: Final = 5.0
_POLL_S: Final = 0.2
_ROWS, _COLUMNS = 50, 200


class ShellError(Exception):
    """A shell does not start, or does not accept input."""


@dataclass(frozen=True, slots=True)
class Done:
    """The command ended."""

    output: str
    report: Report


@dataclass(frozen=True, slots=True)
class Running:
    """The command is still running: `quiet` if it had no output for too long, else its timeout has passed."""

    output: str
    quiet: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """The shell itself ended; `exit_code` is negative if a signal ended it."""

    output: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Interrupted:
    """`interrupt` was called; the shell cannot be used any more."""

    output: str


type CommandOutcome = Done | Running | Ended | Interrupted


class Shell:
    """A persistent bash. Commands run one at a time, and see the variables, functions and directory that earlier ones set."""

    def __init__(self, directory: Path, bash: str, environment: Mapping[str, str]) -> None:
        """Start a shell in `directory`, which must be empty and which it owns from now on; return before it is ready."""
        self._directory = directory
        self._commands = directory / "commands"
        home = directory / "home"
        for made in (self._commands, home, home / "tmp"):
            made.mkdir(mode=0o700)
        nonce = secrets.token_hex(8)
        self._screen = TerminalOutput(nonce)
        self._changed = threading.Condition()
        self._output_at = time.monotonic()
        self._number = 0
        self._silent = self._interrupted = False
        self._kill_lock = threading.Lock()
        own = {
            "SHELL": bash,
            "HOME": str(home),
            "TMPDIR": str(home / "tmp"),
            MARKER: str(directory),
            "AGENT_SHELL_COMMANDS": str(self._commands),
            "AGENT_SHELL_NONCE": nonce,
        }
        with contextlib.ExitStack() as undo:
            self._master, slave = _open_terminal(undo)
            self._wake_reader, self._woken = _open_pipe(undo)
            lifeline, self._lifeline = _open_pipe(undo)
            self._process = _launch(bash, slave, lifeline, home, {**environment, **own})
            undo.pop_all()
        os.close(lifeline)
        os.close(slave)
        self._reader = threading.Thread(target=self._read, name=f"shell-{self._process.pid}", daemon=True)
        self._reader.start()

    @classmethod
    def start(cls, directory: Path, bash: str, environment: Mapping[str, str]) -> Self:
        """Start a shell and wait until it accepts commands.

        Raises:
            ShellError: it does not start.
        """
        shell = cls(directory, bash, environment)
        match shell.wait(timeout_s=_START_TIMEOUT_S, quiet_s=_START_TIMEOUT_S):
            case Done():
                return shell
            case Running(output) | Ended(output) | Interrupted(output):
                shell.kill()
                raise ShellError(f"bash did not start: {output.strip()[:200] or 'no answer'}")

    @property
    def alive(self) -> bool:
        """Whether the shell accepts another command."""
        return self._process.poll() is None and not self._silent and not self._interrupted

    @property
    def pid(self) -> int:
        """Process id of the keeper, of which all processes of the shell are descendants; may be reused once not `running`."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its process is not yet known to have ended."""
        return self._process.returncode is None

    def run(self, command: str) -> None:
        """Begin a command, of any length and number of lines; `wait` returns its outcome.

        Raises:
            ShellError: the shell has ended.
        """
        self._number += 1
        try:
            # "x": a file or a link that an agent has made there is neither followed nor overwritten.
            with self._commands.joinpath(str(self._number)).open("xb") as script:
                script.write(command.replace("\0", "").encode(errors="replace"))
        except OSError:
            raise ShellError("The shell's own directory was removed.") from None
        self.type(f'__shell_load {self._number}; eval "$__shell_text"; __shell_end\n'.encode())

    def type(self, keys: bytes) -> None:
        """Send keystrokes to the program that reads the terminal.

        Raises:
            ShellError: no program reads them.
        """
        deadline = time.monotonic() + _WRITE_TIMEOUT_S
        with self._changed:
            while keys:
                if not self.alive:
                    raise ShellError("The shell has ended.")
                try:
                    keys = keys[os.write(self._master, keys) :]
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise ShellError("The running process does not read its input.") from None
                    self._changed.wait(0.01)
                except OSError:
                    raise ShellError("The shell has ended.") from None

    def wait(self, *, timeout_s: float | None, quiet_s: float) -> CommandOutcome:
        """Wait until the command ends or has run for `timeout_s`; if that is None, until it has had no output for `quiet_s`."""
        began = time.monotonic()
        with self._changed:
            while True:
                report = self._screen.last
                if self._interrupted:
                    return Interrupted(self._screen.take())
                if report is not None and report.number == self._number:
                    self._commands.joinpath(str(self._number)).unlink(missing_ok=True)
                    return Done(self._screen.take(), report)
                if not self.alive:
                    return self._end_outcome()
                until = began + timeout_s if timeout_s is not None else max(began, self._output_at) + quiet_s
                left = until - time.monotonic()
                if left <= 0:
                    return Running(self._screen.take(), quiet=timeout_s is None)
                self._changed.wait(min(left, _POLL_S))

    def interrupt(self) -> None:
        """Stop the running command, even if it ignores signals, and let `wait` return. From any thread; does not block.

        An interrupted shell accepts no more commands, because it might execute input that it has not read yet. `kill` it.
        """
        with self._changed:
            with contextlib.suppress(OSError):
                foreground = os.tcgetpgrp(self._master)
                # 0 if no process has the terminal, as after the shell's end. For `killpg`, 0 is the gateway's own group.
                if foreground > 0:
                    os.killpg(foreground, signal.SIGINT if _is_shell(foreground) else signal.SIGKILL)
            self._interrupted = True
            self._changed.notify_all()

    def kill(self) -> None:
        """End the shell and all processes that it started, and remove its directory. Idempotent."""
        with self._kill_lock:
            if self._master < 0:
                return
            os.close(self._lifeline)  # makes the keeper end all processes
            if sys.platform == "linux":
                self._wait_for_end()
            if self._process.poll() is None:
                # There is no keeper, or an agent has stopped it. The process is suspended first, because a shell could start
                # another process between the last search for descendants and its own end.
                self._process.send_signal(signal.SIGSTOP)
                end_descendants(self._process.pid)
                self._process.kill()
                self._wait_for_end()
            # A keeper exits with 0 when it has ended all processes. If an agent has ended the keeper, the processes that it left
            # behind are found by their environment.
            if self._process.returncode != 0 or sys.platform != "linux":
                end_marked(str(self._directory))
            self._stop_reading()
            remove_tree(self._directory)

    def _wait_for_end(self) -> None:
        timeout_s = _END_TIMEOUT_S
        if sys.platform == "linux":
            # `Popen.wait` with a timeout polls, and notices the end some 30 ms late.
            with (
                contextlib.suppress(OSError),
                os.fdopen(os.pidfd_open(self._process.pid)) as end,
                selectors.DefaultSelector() as selector,
            ):
                selector.register(end, selectors.EVENT_READ)
                selector.select(timeout_s)
                timeout_s = 0
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)

    def _end_outcome(self) -> Ended:
        # The end of the output and the end of the process are separate events, in any order.
        self._changed.wait_for(lambda: self._silent, timeout=_POLL_S)
        self._wait_for_end()
        return Ended(self._screen.take(), self._process.returncode or 0)

    def _read(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._master, selectors.EVENT_READ)
            selector.register(self._wake_reader, selectors.EVENT_READ)
            while all(key.fd == self._master for key, _ in selector.select()):
                try:
                    data = os.read(self._master, 65536)
                except OSError:
                    # Linux reports EIO when the last process has closed the terminal.
                    data = b""
                if not data:
                    break
                with self._changed:
                    self._screen.feed(data)
                    self._output_at = time.monotonic()
                    self._changed.notify_all()
        with self._changed:
            self._silent = True
            self._changed.notify_all()

    def _stop_reading(self) -> None:
        os.close(self._woken)
        self._reader.join()
        os.close(self._wake_reader)
        with self._changed:
            os.close(self._master)
            self._master = -1


def _open_pipe(undo: contextlib.ExitStack) -> tuple[int, int]:
    """Open a pipe and return its ends, the reading end first; `undo` closes both."""
    ends = os.pipe()
    for end in ends:
        undo.callback(os.close, end)
    return ends


def _open_terminal(undo: contextlib.ExitStack) -> tuple[int, int]:
    """Open a terminal whose output is only what programs write: no echo, no added carriage returns.

    Return the gateway's end, which does not block, and the shell's; `undo` closes both.
    """
    master, slave = pty.openpty()
    undo.callback(os.close, master)
    undo.callback(os.close, slave)
    attributes = termios.tcgetattr(slave)
    attributes[1] &= ~termios.OPOST
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
    os.set_blocking(master, False)
    return master, slave


def _launch(bash: str, terminal: int, lifeline: int, home: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    arguments = ("--noprofile", "--rcfile", str(_HERE / "shellrc.bash"), "--noediting", "-i")
    return subprocess.Popen(  # noqa: S603  # our own launcher, arguments of our own
        [sys.executable, "-I", "-S", str(_HERE / "shell_launch.py"), str(lifeline), bash, *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=home,
        start_new_session=True,
        pass_fds=(lifeline,),
        env=environment,
    )


def _is_shell(process_group: int) -> bool:
    """Return whether a process group of the terminal is the shell's own, rather than that of a command."""
    try:
        return os.getsid(process_group) == process_group
    except ProcessLookupError:  # its first process has ended, others of it may still run
        return False
