"""Hold `docs/architecture.md` against the code: packages, layers, states, and the modules that it names."""

import re
import tomllib
from pathlib import Path

import pytest

from a2a_gateway.runs.model import TRANSITIONS, RunState
from tests.support.pages import DOCUMENTS, ROOT, codes_in, name_of, section_of, tables_of

PAGE = (ROOT / "docs" / "architecture.md").read_text()
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
_UNLISTED = {"__init__", "__main__", "__pycache__", "demo_profiles", "py"}


def test_the_layout_lists_every_package_and_module_of_the_gateway() -> None:
    (layout, *_) = tables_of(section_of(PAGE, "Layout"))
    listed = {name for row in layout for name in codes_in(row[0])}
    there = {path.name.partition(".")[0] for path in (ROOT / "a2a_gateway").iterdir()} - _UNLISTED
    assert listed == {"delegate_tool"} | {f"a2a_gateway.{name}" for name in there}


@pytest.mark.parametrize("number", [0, 1])
def test_the_layers_are_those_that_import_linter_enforces(number: int) -> None:
    _, *parts = PAGE.split("<!-- layers -->\n")
    layers = [contract["layers"] for contract in CONTRACTS if contract["type"] == "layers"][number]
    assert [set(codes_in(row[1])) for row in tables_of(parts[number])[0]] == [set(layer.split(" | ")) for layer in layers]


def test_the_states_of_a_run_and_their_successors_are_those_of_the_code() -> None:
    life = section_of(PAGE, "The life of a run")
    table = {codes_in(state)[0]: set(codes_in(after)) for state, _, after in tables_of(life)[0]}
    assert table == {str(state): set(map(str, after)) for state, after in TRANSITIONS.items()}
    drawn = set(re.findall(r"^    (\w+) --> (\w+)$", life, re.MULTILINE))
    assert drawn == {(str(state), str(after)) for state, followers in TRANSITIONS.items() for after in followers}
    assert set(table) == set(map(str, RunState))


@pytest.mark.parametrize("document", [page for page in DOCUMENTS if page.name != "CHANGELOG.md"], ids=name_of)
def test_a_document_names_modules_and_tests_that_exist(document: Path) -> None:
    text = document.read_text()
    modules = re.findall(r"`((?:a2a_gateway|delegate_tool)(?:\.\w+)*)`", text)
    assert [name for name in modules if not _is_module(name)] == []
    assert [name for name in re.findall(r"`(tests/[\w/]+\.py)`", text) if not (ROOT / name).is_file()] == []


def _is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()
