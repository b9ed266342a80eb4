"""Regular expressions of strangers."""

import pytest

from a2a_gateway.agents.tools.regular_expressions import ExpressionError, compile_expression


@pytest.mark.parametrize(
    "expression",
    ["(", "a" * 2001, "(?:(?:a{1000}){1000}){1000}", "a{99999999}", "(" * 1000 + ")" * 1000],
    ids=["broken", "long", "nested-repeats", "repeat", "deep"],
)
def test_what_is_none_or_takes_long_to_compile_is_refused(expression: str) -> None:
    with pytest.raises(ExpressionError):
        compile_expression(expression)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}$", "2026-01-02T03:04:05"),
        (r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", "8f14e45f-ceea-467f-9d8c-5d9bb2b1a1f0"),
        (r"(?i)error{1,3}", "ERROR"),
    ],
)
def test_ordinary_expressions_match(expression: str, text: str) -> None:
    assert compile_expression(expression).search(text, timeout=1, concurrent=True)
