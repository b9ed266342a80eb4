"""Text for people and programs: sanitised for UTF-8 and for terminals, and the suggestion for a misspelled name.

Lone surrogates come from JSON escapes, and from file names that are not UTF-8.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_CONTROLS: Final = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")
"""Control characters including C1, except tab and line break; characters that change the direction of text; surrogates."""

_SEPARATORS: Final = re.compile(r"[\W_]+")
_COMPARED_CHARS: Final = 100


def did_you_mean(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """Return ` (did you mean …?)` with the known name that is most like a wrong one; empty if no name is.

    Args:
        prefix: what the known names begin with; it is not compared, because it would make all of them alike.
    """
    by_letters = {_letters(each, prefix): each for each in known}
    found = get_close_matches(_letters(name, prefix), by_letters, n=1)
    return f" (did you mean {by_letters[found[0]]}?)" if found else ""


def _letters(name: str, prefix: str) -> str:
    return _SEPARATORS.sub("", name[:_COMPARED_CHARS].lower().removeprefix(prefix.lower()))


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
