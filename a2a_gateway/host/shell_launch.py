"""Start the shell of an agent, and supervise it. A separate program; the rules of a sandbox would be applied here.

Usage: `python -I -S shell_launch.py LIFELINE PROGRAM ARGUMENT…`, with a terminal as standard input, in a new session. LIFELINE is
the reading end of a pipe; only the gateway has the other end. It imports nothing of the gateway, and as little as possible,
because its start delays every shell's start.

On Linux it stays as the shell's keeper. A gateway that was killed cannot end processes, and an agent's processes may have
detached themselves from shell and terminal and cleared their environment. The keeper is a child subreaper: when the shell ends,
the kernel makes the keeper the parent of all processes that the shell started. The keeper kills them when the shell ends, or when
the gateway, alive or dead, has closed the lifeline.
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
    """Start `program` on the terminal and supervise it; on other systems than Linux, only execute it."""
    if sys.platform != "linux":
        os.close(lifeline)
        _exec_shell(program)
    _become_subreaper()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # the signal only has to end the wait
    signal.set_wakeup_fd(wake)
    shell = os.fork()
    if shell == 0:
        for descriptor in (lifeline, woken, wake):
            os.close(descriptor)
        os.setsid()
        _exec_shell(program)
    _detach_from_terminal()
    _exit_with(_supervise(shell, lifeline, woken))


def _exec_shell(program: list[str]) -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    if sys.platform == "linux":
        # A daemon that detaches itself becomes a child of the shell, so that it can be found and ended with the shell.
        _become_subreaper()
    # An agent's processes must not take the CPU from the gateway.
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    # Python ignores these signals, and child processes inherit that: `yes | head` would not end.
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    os.execv(program[0], program)  # noqa: S606  # being a launcher is the point


def _become_subreaper() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _detach_from_terminal() -> None:
    # So that the gateway sees the terminal's end as soon as the shell and its processes have closed it.
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)


def _supervise(shell: int, lifeline: int, woken: int) -> int:
    """Wait for the end of the shell or of the lifeline, then kill all descendants; return the shell's wait status.

    Return 0 if the gateway, alive or dead, has closed the lifeline: no process is left then.
    """
    ended, status = 0, 0
    while not ended:
        ready, _, _ = select.select([lifeline, woken], [], [])
        if lifeline in ready:
            _kill_descendants()
            return 0
        os.read(woken, 4096)
        ended, status = os.waitpid(shell, os.WNOHANG)
    _kill_descendants()
    return status


def _kill_descendants() -> None:
    """Kill all descendants. A process that forks and exits during a search is not seen, so search until two found nothing."""
    empty_searches = 0
    while empty_searches < 2:
        found = _descendants(os.getpid())
        empty_searches = 0 if found else empty_searches + 1
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    _reap_children()


def _reap_children() -> None:
    # Otherwise the machine's first process would become their parent, which in a container may be one that never reaps children.
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def _descendants(top: int) -> list[int]:
    """Return the descendants of a process that have not ended."""
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


def _exit_with(status: int) -> None:
    """Exit in the same way as the shell, so that the gateway receives the shell's exit status."""
    if os.WIFSIGNALED(status):
        with contextlib.suppress(OSError):  # SIGKILL has no handler to set
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
