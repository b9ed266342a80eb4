"""The full text of each error, read from `texts.toml`: to reword an error, change one line there."""

import json
import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Final

type Case = Callable[[Path], object]
"""Raises an error in an empty directory, or returns it or the tool's refusal, or returns a coroutine that does one of these."""

FILE: Final = Path(__file__).with_name("texts.toml")
_VOLATILE: Final = (
    (re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b|\b[0-9a-f]{32}\b"), "<id>"),
    (re.compile(r"\b0\.\d{3,} s\b"), "<seconds> s"),
    (re.compile(r"127\.0\.0\.1:[1-9]\d{2,}"), "127.0.0.1:<port>"),
)
_VALUE: Final = re.compile(r"'[^']*'|<\w+>[\w./-]*|\b\d[\d.]*\b")


def check_text(name: str, text: str, tmp_path: Path | None = None) -> None:
    """Compare a text with its line; with WRITE_ERROR_TEXTS=1 in the environment, write the line instead.

    Ids, ports and the test's own directory differ from run to run, and are replaced.
    """
    for pattern, replacement in _VOLATILE:
        text = pattern.sub(replacement, text)
    if tmp_path is not None:
        text = text.replace(str(tmp_path), "<tmp>")
    if os.environ.get("WRITE_ERROR_TEXTS"):
        lines = sorted({**texts(), name: text}.items())
        FILE.write_text(_HEAD + "".join(f"{json.dumps(key)} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in lines))
    assert texts()[name] == text


def pattern_of(name: str) -> str:
    """Return a pattern for `match=` that finds the text of a situation, with any values in it.

    Values are what is quoted, numbers, and what is volatile.
    """
    return ".+?".join(map(re.escape, _VALUE.split(texts()[name].strip())))


def texts() -> dict[str, str]:
    return tomllib.loads(FILE.read_text()) if FILE.exists() else {}


_HEAD: Final = (
    "# The text of each error, by its code and situation. After rewording, edit the line, or write all lines again:\n"
    "#   WRITE_ERROR_TEXTS=1 .venv/bin/python -m pytest -n 0 tests/error_texts\n"
)
