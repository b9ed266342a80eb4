"""Translate patterns of file names (`*`, `?`, `[…]`, `**/`, `{a,b}`) to regular expressions. Pure."""

import re
from typing import Final

import bracex
from wcmatch import glob

_FLAGS: Final = glob.GLOBSTAR | glob.DOTGLOB | glob.FORCEUNIX
_MAX_ALTERNATIVES: Final = 64
_TOKEN: Final = re.compile(r"(?P<inner>(?<![^/])\*\*\*+|(?<=[^/*])\*\*+|\*\*+(?=[^/*]))|\\.|\[[!^]?\]?[^]]*\]|\*+|.", re.DOTALL)
"""`inner` is a `**` that is not a whole segment. The others are escapes, sets, and single characters."""


def glob_expression(pattern: str) -> str:
    """Translate a pattern for a whole relative path; `*` and `?` stop at a slash, `**` does not.

    Braces that expand to more than 64 patterns are taken literally. Every text is a pattern: there are no syntax errors.
    """
    try:
        alternatives = bracex.expand(pattern, keep_escapes=True, limit=_MAX_ALTERNATIVES)
    except (bracex.ExpansionLimitException, RecursionError):  # it recurses into nested braces
        alternatives = [pattern]
    room = _MAX_ALTERNATIVES // max(1, len(alternatives))
    spelled_out = [spelling for alternative in alternatives for spelling in _spell_out(alternative, room)]
    expressions, _ = glob.translate(spelled_out, flags=_FLAGS)
    return "|".join(expressions)


def _spell_out(pattern: str, limit: int) -> list[str]:
    """Spell out each `**` within a segment, as in `src/**.py`, that wcmatch would take for `*`; at most `limit` patterns."""
    spellings = [""]
    for token in _TOKEN.finditer(pattern):
        choices = [token[0]] if token["inner"] is None else ["*", "*/**/*"]
        if len(spellings) * len(choices) > limit:
            choices = choices[:1]
        spellings = [spelling + choice for spelling in spellings for choice in choices]
    return spellings
