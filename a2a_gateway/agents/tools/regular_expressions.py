"""Compile untrusted regular expressions for `regex`, an engine that can be stopped while it matches. Pure.

Call `search` with a `timeout`, and with `concurrent=True` so that other threads run meanwhile. Compiling has no timeout, so
expressions that would take long to compile are refused.
"""

import math
import re
from typing import Final

import regex

MAX_EXPRESSION_CHARS: Final = 2000
_MAX_REPEATS: Final = 250_000
_REPEAT: Final = re.compile(r"\{(\d{1,9})")


class ExpressionError(ValueError):
    """An expression is invalid or too large; the message contains the reason."""


def compile_expression(expression: str, flags: int = 0, *, max_chars: int = MAX_EXPRESSION_CHARS) -> "regex.Pattern[str]":
    """Compile an untrusted expression of at most `max_chars` characters.

    Raises:
        ExpressionError: it is invalid or too large.
    """
    if len(expression) > max_chars:
        raise ExpressionError(f"it has {len(expression)} characters, at most {max_chars} are allowed")
    # The engine expands repetitions: `((a{1000}){1000}){1000}` would take minutes and all memory.
    if math.prod(max(1, int(times)) for times in _REPEAT.findall(expression)) > _MAX_REPEATS:
        raise ExpressionError(f"its repetitions multiply to more than {_MAX_REPEATS}")
    try:
        return regex.compile(expression, flags)
    except (regex.error, RecursionError, OverflowError) as error:
        raise ExpressionError(str(error) or "it is nested too deeply") from None
