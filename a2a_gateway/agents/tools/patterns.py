"""Translate patterns of file names (`*`, `?`, `[…]`, `**/`, `{a,b}`) to regular expressions. Pure."""

from typing import Final

import bracex
from wcmatch import glob

_FLAGS: Final = glob.GLOBSTAR | glob.DOTGLOB | glob.FORCEUNIX
_MAX_ALTERNATIVES: Final = 64


def glob_expression(pattern: str) -> str:
    """Translate a pattern for a whole relative path; `*` and `?` stop at a slash, `**/` does not.

    Braces that expand to more than 64 patterns are taken literally. Every text is a pattern: there are no syntax errors.
    """
    try:
        alternatives = bracex.expand(pattern, keep_escapes=True, limit=_MAX_ALTERNATIVES)
    except bracex.ExpansionLimitException:
        alternatives = [pattern]
    expressions, _ = glob.translate(alternatives, flags=_FLAGS)
    return "|".join(expressions)
