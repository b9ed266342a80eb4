"""File name patterns as people write them for agents: `*`, `?`, `[…]`, `**/`, `{a,b}`. Pure: text to a regular expression."""

import fnmatch
import re
from typing import Final

_MAX_ALTERNATIVES: Final = 64
_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_TOKEN: Final = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)


def expand_braces(pattern: str) -> list[str]:
    """Return the patterns without braces that one with braces stands for; with too many of them, the braces are literal."""
    done, pending = [], [pattern]
    while pending:
        first = pending.pop(0)
        found = _BRACES.search(first)
        if found is None:
            done.append(first)
        else:
            pending[:0] = [first[: found.start()] + choice + first[found.end() :] for choice in found[1].split(",")]
        if len(done) + len(pending) > _MAX_ALTERNATIVES:
            return [pattern]
    return done


def glob_expression(pattern: str) -> str:
    """Translate a pattern for a whole relative path to a regular expression; `*` and `?` stop at a slash, `**/` does not."""
    return "|".join(_translate(alternative) for alternative in expand_braces(pattern))


def _translate(pattern: str) -> str:
    return "".join(_expression(token) for token in _TOKEN.findall(pattern))


def _expression(token: str) -> str:
    match token:
        case "**/":
            return r"(?:[^/]+/)*"
        case "**":
            return r".*"
        case "*":
            return r"[^/]*"
        case "?":
            return r"[^/]"
        case _ if len(token) > 2 and token[0] == "[":
            # The standard library knows what a set means; around it stands what anchors a whole pattern.
            return "(?!/)" + fnmatch.translate(token).removeprefix("(?s:").rpartition(")")[0]
        case _:
            return re.escape(token)
