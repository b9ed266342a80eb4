"""Hold documents and code to the plain language of `AGENTS.md`, as far as a program can."""

from pathlib import Path
from typing import Final

import pytest

from tests.support.language import check_code, check_document, public_types
from tests.support.pages import DOCUMENTS, ROOT, name_of

CODE: Final = (
    "a2a_gateway",
    "delegate_tool",
    "bench",
    "examples",
    "scripts",
    "tests/cli",
    "tests/crash",
    "tests/delegate_tool",
    "tests/error_texts",
    "tests/examples",
    "tests/host",
    "tests/identity",
    "tests/interaction",
    "tests/peers",
    "tests/recordings_e2e",
    "tests/runs",
    "tests/server",
    "tests/stores",
    "tests/support",
    "tests/testing",
    "tests/wire",
)
"""Folders whose Python files are held to the language."""
TYPES: Final = ("a2a_gateway", "delegate_tool")
"""Folders in which each public type has a name of its own."""


RULES: Final = ROOT / "tests" / "support" / "language.py"
"""The file of the rules, which contains the banned words."""


def python_files(folders: tuple[str, ...]) -> list[Path]:
    paths = [ROOT / folder for folder in folders]
    return [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*.py")))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_a_document_is_in_plain_language(document: Path) -> None:
    assert list(check_document(document.read_text())) == []


@pytest.mark.parametrize("folder", CODE)
def test_code_is_in_plain_language(folder: str) -> None:
    findings = {name_of(file): list(check_code(file.read_text())) for file in python_files((folder,)) if file != RULES}
    assert {name: found for name, found in findings.items() if found} == {}


def test_each_public_type_has_a_name_of_its_own() -> None:
    homes = public_types(python_files(TYPES))
    assert {name: [name_of(home) for home in there] for name, there in homes.items() if len(there) > 1} == {}


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("# The caller is told why.", "send, return"),
        ('raise ValueError("There is no key, and none is needed")', "missing"),
        ("def worded(): ...", "verb"),
        ('def render():\n    """The text of an error."""', "imperative"),
        ('def render():\n    """Lines of a page."""', "imperative"),
        ('text = "." * bool(end)', "multiplied"),
        ("(parse if strict else guess)(text)", "picks"),
    ],
)
def test_each_rule_for_code_finds_what_it_is_for(source: str, part: str) -> None:
    (finding,) = check_code(source)
    assert part in finding.what


@pytest.mark.parametrize(
    "source",
    [
        'def settle():\n    """Pass on `told`, which is a name."""',
        "def feed(): ...",
        "@property\ndef abandoned(self): ...",
        "def read(value: str | None = None): ...",
    ],
)
def test_plain_code_is_accepted(source: str) -> None:
    assert list(check_code(source)) == []


def test_a_sentence_that_never_ends_is_found_but_a_table_is_not_one_sentence() -> None:
    words = "word " * 30
    assert [finding.line for finding in check_document(f"# Title\n\nShort. {words}{words}\n")] == [3]
    assert list(check_document(f"| {words} | {words} |\n|---|---|\n| {words} | {words} |\n\n- {words}\n- {words}\n")) == []


def test_two_types_of_one_name_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("class Text: ...\nclass _Own: ...\n")
    (tmp_path / "b.py").write_text("type Text = str\nclass _Own: ...\n")
    assert {name: len(homes) for name, homes in public_types(sorted(tmp_path.iterdir())).items()} == {"Text": 2}
