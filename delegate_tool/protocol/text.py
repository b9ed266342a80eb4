"""Text that UTF-8 can carry, and text that a terminal can be sent.

Halves of surrogate pairs come from JSON's escapes, and from file names that are no UTF-8.
"""

import re
from typing import Final

_CONTROLS: Final = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")
"""Control characters but for tab and line break, C1 included; what overrides the direction of text; halves of surrogate pairs."""


def well_formed(text: str) -> str:
    """Put the halves of surrogate pairs together; one without its other half becomes U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def legible(text: str) -> str:
    r"""Show control characters as escapes such as `\x1b`, and drop carriage returns, so that text cannot command a terminal.

    Each character by itself: a sequence without its first one is plain text, also where it comes in several pieces.
    """
    return _CONTROLS.sub(_escape, text.replace("\r", ""))


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
