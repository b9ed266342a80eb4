"""File name patterns: what they match, and that none is an error."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2a_gateway.agents.tools.patterns import glob_expression


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("*.py", ["a.py", ".py"], ["a/b.py", "a.pyc"]),
        ("**/*.py", ["a.py", "a/b.py", "a/b/c.py"], ["a.js"]),
        ("src/**", ["src/a", "src/a/b"], ["lib/a"]),
        ("src/**.py", ["src/a.py", "src/a/b.py", "src/.a/b/.py"], ["a.py", "src/a.js"]),
        ("**.py", ["a.py", "a/b/c.py"], ["a.js"]),
        ("a**b", ["ab", "a/b", "ac/d/eb"], ["b", "a/bc"]),
        ("src/**/x.ts", ["src/x.ts", "src/a/b/x.ts"], ["x.ts", "src/ax.ts"]),
        ("*.{ts,tsx}", ["a.ts", "a.tsx"], ["a.t", "a.{ts,tsx}"]),
        ("{a,b{c,d}}", ["a", "bc", "bd"], ["b", "c"]),
        ("?[!0-9]", ["ab"], ["a1", "a/", "a"]),
        ("[]^]", ["]", "^"], ["a"]),
        ("[a", ["[a"], ["a"]),
        ("a+(b)|.$", ["a+(b)|.$"], ["aab"]),
        (r"\*.py", ["*.py"], ["a.py"]),
        ("{a}.{py", ["{a}.{py"], ["a.py"]),
    ],
)
def test_a_pattern_matches_whole_relative_paths(pattern: str, matching: list[str], others: list[str]) -> None:
    expression = re.compile(glob_expression(pattern))
    assert [path for path in matching + others if expression.fullmatch(path)] == matching


@given(st.text(alphabet="*?[]{},!^-/\\ab|&~.()", max_size=30))
def test_every_text_is_a_pattern(text: str) -> None:
    re.compile(glob_expression(text))


@pytest.mark.parametrize("text", ["{" * 2_000, "{a," * 600, "{a," * 500 + "}" * 500, "a**" * 600, "{a,b}**" * 200])
def test_every_text_is_a_pattern_however_deep_or_long(text: str) -> None:
    re.compile(glob_expression(text))


def test_braces_that_stand_for_too_much_stand_for_themselves() -> None:
    pattern = "{a,b}" * 20
    expression = re.compile(glob_expression(pattern))
    assert expression.fullmatch(pattern)
    assert not expression.fullmatch("ab" * 10)
