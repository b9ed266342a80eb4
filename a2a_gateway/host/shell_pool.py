"""Keep a pool of shells that are started in advance, so that a run's first command does not wait; build their environment.

Owns every shell until it has ended, including those that runs have taken. Blocking: for threads.
"""

import contextlib
import fcntl
import os
import queue
import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from a2a_gateway.host.process_tree import end_marked
from a2a_gateway.host.shell import Shell, ShellError
from a2a_gateway.host.workspaces import remove_tree
from a2a_gateway.runs.model import RunId

# With more starts at once, each takes so much longer that no time is saved.
_STARTS_AT_ONCE: Final = 2
_TAKE_TIMEOUT_S: Final = 60.0
_FORGIVEN_FAILURES: Final = 2
_CLOSED: Final = "The gateway is shutting down."
_PASSED_ON: Final = ("LANG", "LC_ALL", "TZ", "USER", "LOGNAME")


def shell_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Build the environment of an agent's shell: a short list of names, and a PATH without the gateway's own virtual environment.

    No other variable of the gateway is passed on; some contain its keys.
    """
    passed_on = {name: environ[name] for name in _PASSED_ON if name in environ}
    return {
        "LANG": "C.UTF-8",
        **passed_on,
        "PATH": _path_without_own(environ.get("PATH", os.defpath)),
        # Programs on a dumb terminal neither colour nor redraw, and no pager waits for a key.
        "TERM": "dumb",
        "PAGER": "cat",
        "GIT_PAGER": "cat",
        "GIT_TERMINAL_PROMPT": "0",
    }


def _path_without_own(value: str) -> str:
    own = Path(sys.prefix) if sys.prefix != sys.base_prefix else None
    return os.pathsep.join(entry for entry in value.split(os.pathsep) if own is None or not Path(entry).is_relative_to(own))


class ShellPool:
    """Keeps `size` shells ready; a context manager that ends all shells on exit.

    Any number may be taken at the same time. If no shell is ready, `take` waits for a start.
    """

    def __init__(self, root: Path, size: int, environment: Mapping[str, str]) -> None:
        """`root` is a directory for this pool's files; pools of several gateways may share it."""
        self._root = root
        self._size = size
        self._environment = dict(environment)
        self._ready: queue.SimpleQueue[Shell | ShellError] = queue.SimpleQueue()
        self._live: set[Shell] = set()
        self._taken: dict[Shell, RunId] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def __enter__(self) -> "ShellPool":
        """Remove the shells of crashed gateways, and begin to start shells.

        Raises:
            ShellError: there is no bash.
        """
        bash = shutil.which("bash", path=self._environment.get("PATH"))
        if bash is None:
            raise ShellError("The terminal tool needs bash, which is not on the PATH.")
        self._bash = bash
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sweep()
        self._home = Path(tempfile.mkdtemp(prefix="gateway-", dir=self._root.resolve()))
        self._lock_file = self._home.joinpath(".lock").open("x")
        fcntl.flock(self._lock_file, fcntl.LOCK_EX)
        self._starters = ThreadPoolExecutor(_STARTS_AT_ONCE, thread_name_prefix="shell-start")
        for _ in range(self._size):
            self._starters.submit(self._start)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed.set()
        self._starters.shutdown(wait=True, cancel_futures=True)
        self._ready.put(ShellError(_CLOSED))
        with ThreadPoolExecutor(8, thread_name_prefix="shell-end") as enders:
            list(enders.map(self.release, tuple(self._live)))
        self._lock_file.close()
        remove_tree(self._home)

    def in_use(self) -> dict[int, RunId]:
        """Return the process ids of the shells that runs have taken and that have not ended, each with its run."""
        with self._lock:
            return {shell.pid: run_id for shell, run_id in self._taken.items() if shell.running}

    def take(self, run_id: RunId | None = None) -> Shell:
        """Return a shell that is ready, in a directory of its own; end it with `release`.

        Raises:
            ShellError: no shell could be started.
        """
        failures = 0
        while True:
            # Each call starts one shell, so that it gets one in any case, and the pool has its full size again afterwards.
            with self._lock:
                if self._closed.is_set():
                    raise ShellError(_CLOSED)
                self._starters.submit(self._start)
            try:
                shell = self._ready.get(timeout=_TAKE_TIMEOUT_S)
            except queue.Empty:
                raise ShellError(f"No shell could be started within {_TAKE_TIMEOUT_S:g} s.") from None
            if not isinstance(shell, ShellError):
                if shell.alive:
                    if run_id is not None:
                        with self._lock:
                            self._taken[shell] = run_id
                    return shell
                self.release(shell)
                continue
            if self._closed.is_set():
                self._ready.put(shell)  # for the next thread that waits
            # The failed start may be an old one, from before this call, so the first failures do not count.
            failures += 1
            if failures > _FORGIVEN_FAILURES:
                raise shell

    def release(self, shell: Shell) -> None:
        """End a shell with all its processes and files. Idempotent."""
        shell.kill()
        with self._lock:
            self._live.discard(shell)
            self._taken.pop(shell, None)

    def _start(self) -> None:
        try:
            directory = Path(tempfile.mkdtemp(dir=self._home))
            shell = Shell.start(directory, self._bash, self._environment)
        except ShellError as error:
            self._ready.put(error)
        except OSError as error:
            self._ready.put(ShellError(f"A shell cannot be started: {error.strerror}."))
        else:
            with self._lock:
                self._live.add(shell)
            self._ready.put(shell)

    def _sweep(self) -> None:
        """End and remove the shells of gateways that have ended: the lock of their directory is free.

        A missing lock file is not created, as `filelock` would: a directory without one belongs to a gateway that is starting.
        """
        for home in self._root.resolve().glob("gateway-*"):
            with contextlib.suppress(FileNotFoundError, BlockingIOError), home.joinpath(".lock").open("r+") as lock_file:
                fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                end_marked(str(home))
                remove_tree(home)
