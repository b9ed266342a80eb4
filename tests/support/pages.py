"""The documents of the project: their text, their tables, their code blocks."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
DOCUMENTS: Final[Sequence[Path]] = (
    *(ROOT / name for name in ("README.md", "SECURITY.md", "AGENTS.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
)
"""All documents that people write. The reference pages are generated, and not among them."""
_TABLE: Final = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)


def name_of(document: Path) -> str:
    """Return the path of a document from the root of the project."""
    return str(document.relative_to(ROOT))


def tables_of(markdown: str) -> list[list[list[str]]]:
    """Return the cells of each table, without its head."""
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
        for table in _TABLE.findall(markdown)
    ]


def section_of(markdown: str, heading: str) -> str:
    """Return the text below a heading of the second level."""
    return markdown.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def codes_in(text: str) -> list[str]:
    """Return what stands in backquotes."""
    return re.findall(r"`([^`]+)`", text)
