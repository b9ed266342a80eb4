"""Encode JSON as the gateway sends it: compact UTF-8 that every line reader can read."""

import json
from typing import Final

from delegate_tool.protocol.text import well_formed

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
# Many line readers split a stream at these too, though only CR and LF end a line of SSE; in JSON they only occur inside strings.
_UNICODE_LINE_ENDS: Final = {ord(char): f"\\u{ord(char):04x}" for char in "\x85\u2028\u2029"}


def encode_json(value: object) -> bytes:
    """Encode a JSON value; the result never contains a line break.

    Lone surrogates, which UTF-8 cannot carry, become U+FFFD; two that belong together become their character.
    """
    text = _ENCODER.encode(value)
    if text.isascii():
        return text.encode("ascii")
    text = text.translate(_UNICODE_LINE_ENDS)
    return well_formed(text).encode()
