"""Translate an agent's input for a running program: names of keys become the bytes that a terminal sends. Pure."""

import re
from typing import Final

_KEYS: Final = {
    "ENTER": b"\n",
    "TAB": b"\t",
    "BS": b"\x7f",
    "ESC": b"\x1b",
    "UP": b"\x1b[A",
    "DOWN": b"\x1b[B",
    "RIGHT": b"\x1b[C",
    "LEFT": b"\x1b[D",
    "HOME": b"\x1b[H",
    "END": b"\x1b[F",
    "PGUP": b"\x1b[5~",
    "PGDN": b"\x1b[6~",
}
_CONTROL: Final = re.compile(r"(?:C-|CTRL[-+])([A-Z])")


def keystrokes(text: str) -> bytes:
    """Translate a key's name (`UP`, `C-c`, …) to its bytes; any other text becomes a line with a line end."""
    name = text.strip().upper()
    if name in _KEYS:
        return _KEYS[name]
    if control := _CONTROL.fullmatch(name):
        return bytes([ord(control[1]) & 0x1F])
    line = text.replace("\r\n", "\n").encode(errors="replace")
    return line if line.endswith(b"\n") else line + b"\n"
