"""What holds for the project as a whole: cheap imports, pins that fit, documents that name what there is."""

import ast
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
REQUIREMENTS = [Requirement(line) for line in PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines if line[:1] != "#")}


@pytest.mark.parametrize("package", ["a2a_gateway", "delegate_tool"])
def test_importing_a_package_loads_nothing_but_the_standard_library(package: str) -> None:
    program = f"import sys; before = set(sys.modules); import {package}; print(*sorted(set(sys.modules) - before))"
    imported = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    foreign = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names
    assert foreign <= {"a2a_gateway", "delegate_tool"}


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_the_pinned_version_of_each_dependency_is_one_that_the_project_allows(requirement: Requirement) -> None:
    assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)])


def test_no_modules_import_one_another_in_a_circle() -> None:
    graph = grimp.build_graph("a2a_gateway", "delegate_tool", exclude_type_checking_imports=True, cache_dir=None)
    order = TopologicalSorter({module: graph.find_modules_directly_imported_by(module) for module in graph.modules})
    order.prepare()  # raises CycleError, with the modules of a circle


DISTRIBUTIONS = {"jwt": "pyjwt", "yaml": "pyyaml", "jsonschema_rs": "jsonschema-rs"}
"""Distributions that are not named after the package in them."""


def imported_packages() -> set[str]:
    """The packages that the product imports, by the names of their distributions."""
    found = set[str]()
    for path in (path for package in ("a2a_gateway", "delegate_tool") for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names=names):
                    found.update(alias.name for alias in names)
                case ast.ImportFrom(module=str(module), level=0):
                    found.add(module.replace("openhands.", "openhands-"))  # a namespace of several distributions
    tops = {name.partition(".")[0] for name in found} - sys.stdlib_module_names - {"a2a_gateway", "delegate_tool"}
    return {canonicalize_name(DISTRIBUTIONS.get(top, top)) for top in tops}


def test_each_package_that_the_product_imports_is_a_declared_dependency() -> None:
    declared = {canonicalize_name(Requirement(line).name) for line in PROJECT["project"]["dependencies"]}
    assert imported_packages() - declared == set()


def test_the_constraints_are_versions_and_name_no_place_to_get_them_from() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line)] == []


def test_the_readme_begins_with_a_way_to_see_it_work() -> None:
    first_section = (ROOT / "README.md").read_text().split("\n## ")[1].splitlines()
    assert any(line.startswith("make demo") for line in first_section)
    assert any(line.startswith("make test") for line in first_section)


def test_what_the_security_page_claims_is_tested_where_it_says() -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", (ROOT / "docs" / "security.md").read_text()))
    assert len(named) > 30
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_documents_name_every_command() -> None:
    from a2a_gateway.cli.app import app

    named = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    page = (ROOT / "docs" / "cli.md").read_text()
    assert {name for name in named if f"| `{name}" not in page} == set()


def test_the_name_of_each_test_can_be_read_aloud() -> None:
    nodes = [node for path in (ROOT / "tests").rglob("test_*.py") for node in ast.walk(ast.parse(path.read_text()))]
    names = [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [name for name in names if len(name) > 80] == []


def test_no_file_has_more_than_400_lines() -> None:
    folders = ("a2a_gateway", "delegate_tool", "tests", "examples", "bench")
    lines = {path: path.read_text().count("\n") for folder in folders for path in (ROOT / folder).rglob("*.py")}
    assert {path.relative_to(ROOT): count for path, count in lines.items() if count > 400} == {}
