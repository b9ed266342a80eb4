"""Query the kernel for the client's socket of a connection from this machine. Linux only.

The kernel answers one netlink query from a hash table; `/proc/net/tcp` would list every connection of the machine.
Source: https://man7.org/linux/man-pages/man7/sock_diag.7.html
"""

import errno
import os
import socket
import struct
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

type Address = tuple[str, int]
"""A numeric host and a port."""

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLMSG_ERROR: Final = 2
_NLM_F_REQUEST: Final = 1
_TCP_LISTEN: Final = 10
_ALL_STATES: Final = 0xFFFFFFFF
_NO_COOKIE: Final = b"\xff" * 8
_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_WANTED: Final = struct.Struct("=BBBxI")  # inet_diag_req_v2 up to its socket id: family, protocol, extensions, states
_SOCKET_ID: Final = struct.Struct("!HH16s16s4x8s")  # inet_diag_sockid: ports, addresses, interface, cookie
_FOUND: Final = struct.Struct("=BBxx48x12xII")  # inet_diag_msg: family, state, …, user, inode
_ERROR: Final = struct.Struct("=i")
_ANSWER_BYTES: Final = 4096
_LOOPBACK: Final = ip_address("127.0.0.1")


class ClientSocket(NamedTuple):
    """A socket of this machine. `inode` is 0 if no process has it any more; `uid` is the user who created it."""

    inode: int
    uid: int


_GONE: Final = ClientSocket(0, 0)


def client_socket(client: Address, server: Address) -> ClientSocket | None:
    """Return the client's socket of a connection to a server of this machine; None for a client on another machine.

    Raises:
        OSError: the kernel does not answer the query.
    """
    ours, theirs = _parse_address(server[0]), _parse_address(client[0])
    if ours is None or theirs is None or not _is_local(client[0]):
        return None
    return _query(theirs, client[1], ours, server[1])


def supports_socket_queries() -> bool:
    """Return whether the kernel answers such queries here."""
    if sys.platform != "linux":
        return False
    try:
        _query(_LOOPBACK, 1, _LOOPBACK, 1)
    except OSError:
        return False
    return True


def _query(host: IPv4Address | IPv6Address, port: int, peer_host: IPv4Address | IPv6Address, peer_port: int) -> ClientSocket:
    family = socket.AF_INET if host.version == 4 else socket.AF_INET6
    # In the kernel's order: first the address that is local to the requested socket.
    ends = _SOCKET_ID.pack(port, peer_port, host.packed, peer_host.packed, _NO_COOKIE)
    body = _WANTED.pack(family, socket.IPPROTO_TCP, 0, _ALL_STATES) + ends
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as netlink:
        netlink.send(_HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0) + body)
        answer = netlink.recv(_ANSWER_BYTES)
    _, kind, *_ = _HEADER.unpack_from(answer)
    if kind == _NLMSG_ERROR:
        (error,) = _ERROR.unpack_from(answer, _HEADER.size)
        if error == -errno.ENOENT:
            return _GONE
        raise OSError(-error, os.strerror(-error))
    _, state, uid, inode = _FOUND.unpack_from(answer, _HEADER.size)
    # If there is no such connection, the kernel returns the socket that listens at that port.
    return _GONE if state == _TCP_LISTEN else ClientSocket(inode, uid)


def _parse_address(host: str) -> IPv4Address | IPv6Address | None:
    """Return None if invalid. IPv4-mapped IPv6 addresses are unwrapped, as the kernel stores them as IPv4."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _is_local(host: str) -> bool:
    """Return whether an address is one of this machine's own: a socket can be bound only to those."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True
