"""Sanitise text: for UTF-8, and for terminals.

Lone surrogates come from JSON escapes, and from file names that are not UTF-8.
"""

import re
from typing import Final

_CONTROLS: Final = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")
"""Control characters including C1, except tab and line break; characters that change the direction of text; surrogates."""


def well_formed(text: str) -> str:
    """Join surrogate pairs into their characters, and replace lone surrogates with U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def legible(text: str) -> str:
    r"""Show control characters as escapes such as `\x1b`, and drop carriage returns, so that text cannot command a terminal.

    Each character is escaped by itself, so text may be passed in pieces: a sequence without its first character is harmless.
    """
    return _CONTROLS.sub(_escape, text.replace("\r", ""))


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
