"""Gateways as forks of one process that has imported the SDK: importing takes five seconds of a core. Needs Linux.

A fork has an id, signals, files and an end of its own, as any other process. Two things differ: its `/proc/<pid>/environ` and
`cmdline` are those of the process that was forked, and variables that are read by an import have no effect. So a test whose
subject is the start, or the process as others see it, starts a program.
"""

import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import IO

from a2a_gateway.__main__ import main
from a2a_gateway.agents.loading import load_agents_side

_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
_LONGEST_REQUEST = 200_000  # bytes, mostly of the environment


@dataclass
class WarmProcess:
    """A fork, with what tests use of `Popen`. Its standard output is a pipe."""

    pid: int
    stdout: IO[str] = field(repr=False)
    returncode: int | None = None

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def __enter__(self) -> "WarmProcess":
        return self

    def __exit__(self, *_: "type[BaseException] | BaseException | TracebackType | None") -> None:
        self.stdout.close()
        self.wait()


def start_warm(arguments: Sequence[str], environ: Mapping[str, str], stderr: int) -> WarmProcess:
    """Run `a2a-gateway` with these arguments as a child of this process."""
    reader, writer = os.pipe()
    try:
        pid = _parent().fork(json.dumps([list(arguments), dict(environ)]).encode(), writer, stderr)
    finally:
        os.close(writer)
    return WarmProcess(pid, open(reader))


@dataclass(frozen=True)
class _Parent:
    """The process that is forked."""

    process: "subprocess.Popen[bytes]"
    requests: socket.socket
    lock: threading.Lock

    def fork(self, request: bytes, *files: int) -> int:
        with self.lock:
            # The parent of the fork ends at once. A process becomes the child of its nearest ancestor that wants orphans.
            _want_orphans(True)
            try:
                socket.send_fds(self.requests, [request], files)
                pid = int(self.requests.recv(100))
                assert self.requests.recv(100), "the process that is forked has ended"
                return pid
            finally:
                _want_orphans(False)


@cache
def _parent() -> _Parent:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _LONGEST_REQUEST)
    with theirs:
        command = [sys.executable, "-m", "tests.support.warm_python", str(theirs.fileno())]
        # It ends when this process does, and thereby the other end of its socket.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
    return _Parent(process, ours, threading.Lock())


def _want_orphans(wanted: bool) -> None:
    assert ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0) == 0


def _fork_for_each(requests: socket.socket) -> None:
    """Fork for each request. This returns in the forks alone, which are then to run the command that was requested."""
    while True:
        request, files, *_ = socket.recv_fds(requests, _LONGEST_REQUEST, 2)
        if not request:  # the tests have ended
            sys.exit()
        if os.fork() == 0:
            if (pid := os.fork()) > 0:
                requests.send(str(pid).encode())
                os._exit(0)
            requests.close()
            _become(*json.loads(request), *files)
            return
        os.wait()
        requests.send(b"the fork is an orphan")
        for file in files:
            os.close(file)


def _become(arguments: list[str], environ: dict[str, str], stdout: int, stderr: int) -> None:
    for file, number in ((stdout, 1), (stderr, 2)):
        os.dup2(file, number)
        os.close(file)
    sys.stdout, sys.stderr = (
        os.fdopen(1, "w"),
        os.fdopen(2, "w", buffering=1),
    )  # those that were there are of files of other kinds
    os.environ.clear()
    os.environ.update(environ)
    sys.argv[1:] = arguments


if __name__ == "__main__":
    load_agents_side(owns_process=True)
    assert threading.active_count() == 1, "a fork would not have the other threads"
    _fork_for_each(socket.socket(fileno=int(sys.argv[1])))
    main()
