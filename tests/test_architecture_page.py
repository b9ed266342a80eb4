"""Hold `docs/architecture.md` against the code: packages, layers, states, phases, and the names that it cites."""

import re
import tomllib
from pathlib import Path

import pytest

from a2a_gateway.runs.model import TRANSITIONS, RunState
from a2a_gateway.runs.run_life import PHASES, RunPhase
from tests.support.pages import DOCUMENTS, ROOT, codes_in, name_of, section_of, tables_of

PAGE = (ROOT / "docs" / "architecture.md").read_text()
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
LAYERS = [contract["layers"] for contract in CONTRACTS if contract["type"] == "layers"]
_UNLISTED = {"__init__", "__main__", "__pycache__", "demo_profiles", "py"}


def test_the_layout_lists_every_package_and_module_of_the_gateway() -> None:
    (layout, *_) = tables_of(section_of(PAGE, "Layout"))
    listed = {name for row in layout for name in codes_in(row[0])}
    there = {path.name.partition(".")[0] for path in (ROOT / "a2a_gateway").iterdir()} - _UNLISTED
    assert listed == {"delegate_tool"} | {f"a2a_gateway.{name}" for name in there}


def test_the_layers_are_those_that_import_linter_enforces() -> None:
    _, *parts = PAGE.split("<!-- layers -->\n")
    listed = [[set(codes_in(row[1])) for row in tables_of(part)[0]] for part in parts]
    assert listed == [[set(layer.split(" | ")) for layer in layers] for layers in LAYERS]


def test_the_states_of_a_run_and_their_successors_are_those_of_the_code() -> None:
    life = section_of(PAGE, "The life of a run")
    table = {codes_in(state)[0]: set(codes_in(after)) for state, _, after in tables_of(life)[0]}
    assert table == {str(state): set(map(str, after)) for state, after in TRANSITIONS.items()}
    drawn = set(re.findall(r"^    (\w+) --> (\w+)$", life, re.MULTILINE))
    assert drawn == {(str(state), str(after)) for state, followers in TRANSITIONS.items() for after in followers}
    assert set(table) == set(map(str, RunState))


def test_the_phases_of_a_live_run_and_their_steps_are_those_of_the_code() -> None:
    table = tables_of(section_of(PAGE, "The life of a run"))[1]
    listed = {codes_in(phase)[0]: dict(re.findall(r"(\w+) → `(\w+)`", after)) for phase, _, after in table}
    changes = {
        str(phase): {str(step): str(after) for step, after in steps.items() if after is not phase}
        for phase, steps in PHASES.items()
    }
    assert listed == changes
    assert set(listed) == set(map(str, RunPhase))


@pytest.mark.parametrize("document", [page for page in DOCUMENTS if page.name != "CHANGELOG.md"], ids=name_of)
def test_a_document_cites_modules_names_and_tests_that_exist(document: Path) -> None:
    text = document.read_text()
    cited = re.findall(r"`((?:a2a_gateway|delegate_tool)(?:\.\w+)*)`", text)
    assert [name for name in cited if not _exists(name)] == []
    assert [name for name in re.findall(r"`(tests/[\w/]+\.py)`", text) if not (ROOT / name).is_file()] == []


def _exists(name: str) -> bool:
    """Return whether a dotted name is a package, a module, or a name that one of these defines."""
    if _source_of(name):
        return True
    owner, _, defined = name.rpartition(".")
    definition = rf"^(?:class|def|async def|type) {defined}\b|^{defined}\b.* = "
    return any(re.search(definition, source.read_text(), re.MULTILINE) for source in _source_of(owner))


def _source_of(module: str) -> list[Path]:
    path = ROOT / module.replace(".", "/")
    return [source for source in (path / "__init__.py", path.with_suffix(".py")) if source.is_file()]
