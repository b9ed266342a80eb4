"""grep and glob: what they find in a workspace; that they run nothing, leave it never, and always end."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from openhands.tools.glob import GlobAction, GlobObservation
from openhands.tools.grep import GrepAction, GrepObservation

from a2a_gateway.agents.tools.search import ConfinedGlob, ConfinedGrep

ENDLESS = r"(a|aa)+$"


@pytest.fixture
def tree(workspace: Path, tmp_path: Path) -> Path:
    for age, (name, content) in enumerate(
        {"new.py": "Needle", "src/old.ts": "a needle here", "src/b.tsx": "hay", ".env": "needle", ".git/config": "needle"}.items()
    ):
        path = workspace / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        os.utime(path, (1e9 - age, 1e9 - age))
    (workspace / "binary").write_bytes(b"needle\0")
    os.mkfifo(workspace / "fifo")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.py").write_text("needle")
    (workspace / "link.py").symlink_to(tmp_path / "outside" / "secret.py")
    (workspace / "linked").symlink_to(tmp_path / "outside")
    return workspace


def grep(root: Path, pattern: str, **arguments: str) -> GrepObservation:
    return ConfinedGrep(str(root))(GrepAction(pattern=pattern, **arguments))


def glob(root: Path, pattern: str, **arguments: str) -> GlobObservation:
    return ConfinedGlob(str(root))(GlobAction(pattern=pattern, **arguments))


def test_grep_finds_text_files_newest_first_without_regard_to_case(tree: Path) -> None:
    found = grep(tree, "nee+dle")
    assert found.matches == [f"{tree}/new.py", f"{tree}/src/old.ts"]
    assert found.text == (f"Found 2 file(s) containing pattern 'nee+dle' in '{tree}':\n{tree}/new.py\n{tree}/src/old.ts")
    assert grep(tree, "needle", include="*.{ts,tsx}").matches == [f"{tree}/src/old.ts"]
    assert grep(tree, "needle", include=".e*").matches == [f"{tree}/.env"]
    assert grep(tree, "needle", path=f"{tree}/src").matches == grep(tree, "needle", path="src").matches == [f"{tree}/src/old.ts"]
    assert grep(tree, "nowhere").text.startswith("No files found")


def test_glob_finds_files_by_path_newest_first(tree: Path) -> None:
    assert glob(tree, "*.{py,tsx}").files == [f"{tree}/new.py", f"{tree}/src/b.tsx"]
    assert glob(tree, "src/**/*.ts").files == [f"{tree}/src/old.ts"]
    assert glob(tree, f"{tree}/*.py").files == [f"{tree}/new.py"]
    assert glob(tree, "*", path="src").files == [f"{tree}/src/old.ts", f"{tree}/src/b.tsx"]
    assert glob(tree, ".git/*").files == [f"{tree}/.git/config"]
    assert glob(tree, "*.rs").text.startswith("No files found")


@pytest.mark.parametrize("path", ["{tmp}/outside", "linked", "..", "/", "new.py", "missing"])
def test_a_search_outside_the_workspace_is_refused(tree: Path, tmp_path: Path, path: str) -> None:
    at = path.format(tmp=tmp_path)
    assert grep(tree, "needle", path=at).is_error
    assert glob(tree, "*", path=at).is_error
    assert glob(tree, f"{tmp_path}/outside/*").is_error


@pytest.mark.parametrize("pattern", ["--pre={program}", "-f{program}", "--files", "-rneedle"])
def test_a_pattern_is_never_an_option_and_starts_no_program(tree: Path, tmp_path: Path, pattern: str) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o700)
    given = pattern.format(program=program)
    (tree / "options.txt").write_text(f"call {given} now")
    assert grep(tree, given).matches == [f"{tree}/options.txt"]
    assert glob(tree, given).files == []
    assert not (tmp_path / "ran").exists()


def test_a_pattern_that_never_ends_is_stopped_and_says_so(workspace: Path) -> None:
    (workspace / "trap").write_text("a" * 200 + "!")
    (workspace / "/".join(["a"] * 90)).mkdir(parents=True)
    (workspace / "/".join(["a"] * 90) / "b").touch()
    found = ConfinedGrep(str(workspace), timeout_s=0.2)(GrepAction(pattern=ENDLESS))
    assert (found.matches, found.truncated) == ([], True)
    assert "stopped after 0.2 s" in found.text
    listed = ConfinedGlob(str(workspace), timeout_s=0.02)(GlobAction(pattern="**/a/" * 20 + "c/**/b"))  # takes 0.3 s in all
    assert (listed.files, listed.truncated) == ([], True)


def test_a_pattern_that_never_ends_holds_up_nobody_else(workspace: Path) -> None:
    (workspace / "trap").write_text("a" * 200 + "!")
    search = threading.Thread(target=ConfinedGrep(str(workspace), timeout_s=0.2), args=(GrepAction(pattern=ENDLESS),))
    search.start()
    turns = 0
    while search.is_alive():
        search.join(0.001)
        turns += 1
    assert turns > 20


@pytest.mark.parametrize("pattern", ["(", "[", "x{2,1}", "a" * 5000])
def test_a_pattern_that_is_none_is_refused(workspace: Path, pattern: str) -> None:
    assert grep(workspace, pattern).is_error


def test_many_results_are_cut_to_a_hundred(workspace: Path) -> None:
    for number in range(120):
        (workspace / f"{number}.txt").write_text("x")
    found, listed = grep(workspace, "x"), glob(workspace, "*.txt")
    assert (len(found.matches), found.truncated, len(listed.files), listed.truncated) == (100, True, 100, True)
    assert "truncated to first 100" in found.text


def test_a_search_leaves_the_process_where_it_was(tree: Path) -> None:
    before = Path.cwd()
    glob(tree, "*")
    assert Path.cwd() == before


def test_names_that_are_no_text_are_found_and_can_be_told(tree: Path) -> None:
    os.mkdir(os.fsencode(tree) + b"/d\xff")
    Path(os.fsdecode(os.fsencode(tree) + b"/d\xff/caf\xe9.tex")).write_text("needle")
    expected = [f"{tree}/d\N{REPLACEMENT CHARACTER}/caf\N{REPLACEMENT CHARACTER}.tex"]
    assert glob(tree, "*.tex").files == grep(tree, "needle", include="*.tex").matches == expected


def test_a_search_goes_only_as_deep_as_the_gateway_can_afford(workspace: Path) -> None:
    (workspace / "/".join(["d"] * 90) / "e").mkdir(parents=True)
    (workspace / "/".join(["d"] * 90) / "near").touch()
    (workspace / "/".join(["d"] * 90) / "e" / "/".join(["e"] * 90)).mkdir(parents=True)
    (workspace / "/".join(["d"] * 90) / "e" / "/".join(["e"] * 90) / "far").touch()
    assert [Path(path).name for path in glob(workspace, "{near,far}").files] == ["near"]


@pytest.mark.parametrize("search", [lambda root, pattern: grep(root, "x", include=pattern), glob])
def test_a_pattern_whose_choices_would_fill_the_memory_is_refused(
    tree: Path, search: Callable[[Path, str], GrepObservation | GlobObservation]
) -> None:
    observation = search(tree, "x" * 100_000 + "{" + "," * 1_000 + "}")
    assert (observation.is_error, observation.text[:26]) == (True, "Invalid pattern: it has 10")
