"""A client that takes pains not to be seen as the process behind its connection: `python evasive.py WAY HOST PORT KEY`.

Standard library only: an agent runs it in its terminal. It prints the answer that it gets.
"""

import ctypes
import os
import select
import socket
import sys
import threading

_PR_SET_DUMPABLE = 4
_CLONE_FILES = 0x400
_LIBC = ctypes.CDLL(None)


def main(way: str, host: str, port: str, key: str) -> None:
    if way == "hidden":
        _LIBC.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # no process of the same user may look into it
        _ask(host, port, key)
    elif way == "thread":
        asking = threading.Thread(target=_ask_in_thread, args=(host, port, key))
        asking.start()
        asking.join()
    elif way == "relay":
        connection = _send_request(host, port, key)
        while not select.select([connection], [], [], 0)[0]:
            if os.fork():
                os._exit(0)  # the child goes on with the socket, and so on
        _show(connection)


def _ask_in_thread(host: str, port: str, key: str) -> None:
    _LIBC.unshare(_CLONE_FILES)  # what it opens is no longer among the files of the process
    _ask(host, port, key)


def _ask(host: str, port: str, key: str) -> None:
    _show(_send_request(host, port, key))


def _send_request(host: str, port: str, key: str) -> socket.socket:
    connection = socket.create_connection((host, int(port)))
    head = f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
    connection.sendall(head.encode())
    return connection


def _show(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        os.write(1, data)


if __name__ == "__main__":
    main(*sys.argv[1:])
