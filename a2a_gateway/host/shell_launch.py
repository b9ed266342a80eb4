"""Becomes the shell of an agent: a program of its own between `fork` and `exec`, where a sandbox's rules would be applied too.

Usage: `python -I -S shell_launch.py LIFELINE PROGRAM ARGUMENT…`, with a terminal as standard input, in a new session. LIFELINE is
the reading end of a pipe whose other end the gateway alone holds. Imports nothing of the gateway, and as little as it can: its
start is part of every shell's start.

On Linux it stays, as the shell's keeper. A gateway that is killed can end nothing any more, and an agent's processes may have
detached themselves from shell and terminal and have cleared their environment. So what the shell started is handed to its keeper
when the shell ends, however it detached itself, and the keeper ends it with the shell or with the gateway, whichever goes first.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import sys
import termios

_PR_SET_CHILD_SUBREAPER = 36
_NICENESS = 10


def main(lifeline: int, program: list[str]) -> None:
    """Start `program` on the terminal, and outlive it; elsewhere than on Linux, become it."""
    if sys.platform != "linux":
        os.close(lifeline)
        _become(program)
    _take_in_orphans()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # it only has to interrupt the wait
    signal.set_wakeup_fd(wake)
    shell = os.fork()
    if shell == 0:
        for descriptor in (lifeline, woken, wake):
            os.close(descriptor)
        os.setsid()
        _become(program)
    _let_go_of_terminal()
    _end_as(_keep(shell, lifeline, woken))


def _become(program: list[str]) -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    if sys.platform == "linux":
        # A daemon that detaches itself becomes the shell's child again, so that it can be found and ended with the shell.
        _take_in_orphans()
    # What an agent runs must not starve the gateway of its processor.
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    # Python ignores these, and ignoring is inherited: `yes | head` would not end.
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    os.execv(program[0], program)  # noqa: S606  # being a launcher is the point


def _take_in_orphans() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _let_go_of_terminal() -> None:
    # The gateway is to see the terminal's end as soon as the shell and all that it started have closed it.
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)


def _keep(shell: int, lifeline: int, woken: int) -> int:
    """Wait for the end of the shell or of the gateway, and end what is left; returns how the shell ended (a wait status).

    0 where the gateway, dead or alive, has let go of the lifeline: nothing is left then.
    """
    ended, status = 0, 0
    while not ended:
        ready, _, _ = select.select([lifeline, woken], [], [])
        if lifeline in ready:
            _end_all_below()
            return 0
        os.read(woken, 4096)
        ended, status = os.waitpid(shell, os.WNOHANG)
    _end_all_below()
    return status


def _end_all_below() -> None:
    """Kill all descendants. A look takes time, and who forks and exits meanwhile is not seen: so look until two found nobody."""
    nobody = 0
    while nobody < 2:
        found = _descendants(os.getpid())
        nobody = 0 if found else nobody + 1
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    _let_go_of_the_dead()


def _let_go_of_the_dead() -> None:
    # Else they would come to the first process of the machine, which in a container may be one that lets go of nobody.
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def _descendants(top: int) -> list[int]:
    """The processes below one, those that have ended left out."""
    below: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208  # pathlib would take longer to import than this runs
        with contextlib.suppress(OSError):
            state, parent = _read(f"/proc/{name}/stat").rpartition(b")")[2].split()[:2]
            if state not in (b"Z", b"X"):
                below.setdefault(int(parent), []).append(int(name))
    found = below.get(top, [])
    for pid in found:  # grows while it is walked
        found += below.get(pid, [])
    return found


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def _end_as(status: int) -> None:
    """End as the shell has ended, so that whoever waits for one learns of the other."""
    if os.WIFSIGNALED(status):
        with contextlib.suppress(OSError):  # there is nothing to set for SIGKILL
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
