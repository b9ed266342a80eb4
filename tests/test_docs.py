"""The documentation as a whole: it builds, its links lead somewhere, and its generated pages have what they promise."""

import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from a2a_gateway.llm_settings import LLMFields, LLMSettings
from a2a_gateway.runs.limits import Limits
from a2a_gateway.settings import Settings
from delegate_tool.protocol.codes import ERROR_CODES
from scripts.build_reference import PAGES, write_pages
from tests.support.pages import DOCUMENTS, ROOT, codes_in, name_of, tables_of

_LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)[^)]*\)")


def test_the_site_builds_and_every_link_in_it_leads_somewhere(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("reference"))
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    write_pages(tmp_path / "docs" / "reference")
    zensical = Path(sys.executable).parent / "zensical"
    built = subprocess.run([zensical, "build", "--strict"], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert built.returncode == 0, built.stdout + built.stderr
    pages = {page.stem for page in (tmp_path / "docs").rglob("*.md")} - {"index"}
    assert {page.parent.name for page in (tmp_path / "site").rglob("index.html")} >= pages


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_a_document_links_to_files_that_exist(document: Path) -> None:
    generated = {ROOT / "docs" / "reference" / name for name in PAGES}
    linked = {(document.parent / target).resolve() for target in _LINK.findall(document.read_text())}
    assert {path for path in linked if path not in generated and not path.exists()} == set()


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} | {f"reference/{name}" for name in PAGES}
    assert {page for page in pages if f"- {page}\n" not in navigation} == set()


def test_the_readme_is_short_and_names_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 150
    assert len((ROOT / "AGENTS.md").read_text().splitlines()) <= 80
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert {page for page in pages if f"(docs/{page})" not in readme} == set()


def test_every_setting_has_a_description() -> None:
    assert [name for name, setting in Settings.model_fields.items() if not setting.description] == []


def test_every_field_of_an_llm_has_a_description() -> None:
    assert [name for name, setting in LLMSettings.model_fields.items() if not setting.description] == []


def test_the_reference_lists_every_setting_error_code_and_limit() -> None:
    listed = {
        page: [codes_in(row[0])[0] for table in tables_of(PAGES[page]()) for row in table]
        for page in ("settings.md", "llm-fields.md", "errors.md", "limits.md")
    }
    assert listed == {
        "settings.md": list(Settings.model_fields),
        "llm-fields.md": ["name", "model", *LLMFields.model_fields],
        "errors.md": list(ERROR_CODES),
        "limits.md": [field.name.replace("micro_usd", "usd") for field in fields(Limits)],
    }


def test_the_reference_describes_nested_commands_and_routes_with_parameters() -> None:
    assert "## a2a-gateway peer add\n" in PAGES["commands.md"]()
    assert "## GET /v1/runs/{run_id}/events\n" in PAGES["endpoints.md"]()
