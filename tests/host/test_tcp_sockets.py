"""Whose socket is at the other end of a connection, as the kernel lists it."""

import os
import socket

import pytest

from a2a_gateway.host.tcp_sockets import client_socket

pytestmark = pytest.mark.linux("only Linux lists sockets by process")


@pytest.mark.parametrize(
    ("bound", "called"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.1"), ("::", "::ffff:127.0.0.1")]
)
def test_a_client_of_this_machine_is_found_until_it_has_gone(bound: str, called: str) -> None:
    family = socket.AF_INET6 if ":" in bound else socket.AF_INET
    with socket.create_server((bound, 0), family=family, dualstack_ipv6=bound == "::") as server:
        client = socket.create_connection((called, server.getsockname()[1]))
        near, _ = server.accept()
        with near:
            ends = near.getpeername()[:2], near.getsockname()[:2]
            with client:
                assert client_socket(*ends) == (os.fstat(client.fileno()).st_ino, os.geteuid())
            gone = client_socket(*ends)
            assert gone is not None
            assert gone.inode == 0


@pytest.mark.parametrize("host", ["203.0.113.7", "2001:db8::7", "fe80::1", "testclient", ""])
def test_a_client_of_another_machine_is_nobodys_here(host: str) -> None:
    assert client_socket((host, 50_000), ("127.0.0.1", 8420)) is None
