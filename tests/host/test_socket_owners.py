"""Which run has a socket, as a gateway sees it that is not root's."""

import os
from collections.abc import Callable

import pytest

from a2a_gateway.host.socket_owners import SocketOwners
from a2a_gateway.runs.model import RunId

_NOBODY = 65534
_NOBODYS_SOCKET = 1

pytestmark = pytest.mark.linux("reads /proc")


def exit_code_as_nobody(work: Callable[[], bool]) -> int:
    """Do something in a process that is not root's; 0 if it comes out true, 1 if not, 2 if it fails."""
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(_NOBODY)
                os.setuid(_NOBODY)
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_process_of_an_agent_that_has_just_ended_is_none_that_hides_what_it_has() -> None:
    # A client would be refused otherwise, because an agent at work starts and ends processes all the time.

    def look() -> bool:
        ended = os.fork()
        if ended == 0:
            os._exit(0)
        os.waitid(os.P_PID, ended, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
        owners = SocketOwners(lambda: {ended: RunId("run")})
        return owners.run_with_socket(_NOBODYS_SOCKET, os.getuid()) is None

    assert exit_code_as_nobody(look) == 0
