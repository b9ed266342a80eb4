"""The names of headers stand in one table."""

import re
from pathlib import Path

from delegate_tool.protocol.fields import Header

ROOT = Path(__file__).parents[3]


def test_only_the_table_writes_the_names_of_headers() -> None:
    names = {header.lower() for header in Header if "-" in header}
    modules = [path for package in ("a2a_gateway", "delegate_tool") for path in (ROOT / package).rglob("*.py")]
    written = {
        path.name: found
        for path in modules
        if path.name != "fields.py" and (found := names & set(re.findall(r'"([a-z-]+)"', path.read_text().lower())))
    }
    assert len(modules) > 100
    assert written == {}
