"""`a2a-gateway demo`: what it claims to be real is real."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.error_texts.texts import pattern_of
from tests.support.pages import ROOT

pytestmark = pytest.mark.slow


@pytest.mark.timeout(180)
def test_the_demo_delegates_makes_files_that_work_and_shows_what_it_cost(command_line: CommandLine, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    # As in a company's network or a container: none of it may be needed, and none of it may disturb.
    proxied = {"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9", "NO_PROXY": "[::1],fe80::/10,fd07::/64"}
    with command_line.start("demo", "--keep", str(kept), "--json", **proxied) as process:
        stdout, shown = process.communicate()  # with --json, what is otherwise the result goes to standard error
    assert process.returncode == 0, shown
    assert "The LLM is scripted" in shown

    tested = subprocess.run([sys.executable, "-m", "unittest", "-q", "test_primes"], cwd=kept, capture_output=True, text=True)
    assert tested.returncode == 0, tested.stderr
    listed = subprocess.run([sys.executable, "primes.py", "30"], cwd=kept, capture_output=True, text=True, check=True)
    assert listed.stdout.split() == ["2", "3", "5", "7", "11", "13", "17", "19", "23", "29"]

    runs = re.findall(r"(openhands_\w+) +(\d) +finished .*?\$(\d\.\d{6})", shown)
    assert sorted((agent, int(depth)) for agent, depth, _ in runs) == [
        ("openhands_coder", 1),
        ("openhands_coder", 3),
        ("openhands_lead", 0),
        ("openhands_lead", 1),
        ("openhands_lead", 2),
        ("openhands_researcher", 1),
        ("openhands_reviewer", 1),
    ]
    in_all = re.search(r"openhands_lead +0 .*\$(\d\.\d{6}) +([0-9a-f]{8}) *$", shown, re.MULTILINE)
    assert in_all is not None
    assert micro_usd(in_all.group(1)) == sum(micro_usd(own) for _, _, own in runs) > 0
    assert "is refused (delegation_depth_exceeded)" in shown
    assert drawn_tree((ROOT / "README.md").read_text()) == drawn_tree(shown)

    outcome = json.loads(stdout)
    assert outcome["run"]["id"].startswith(in_all.group(2))
    assert micro_usd(outcome["run"]["cost"]["tree"]) == micro_usd(in_all.group(1))
    assert outcome["files"]["primes.py"] == (kept / "primes.py").stat().st_size
    assert (outcome["kept"], outcome["refused"]["code"]) == (str(kept), "delegation_depth_exceeded")
    assert outcome["answer"]


type Drawn = list[tuple[str, Drawn]]


def drawn_tree(text: str) -> Drawn:
    """Return the runs as a tree. Siblings are sorted, because calls of one turn start in any order."""
    rows = re.findall(r"^[ │├└─]*(openhands_\w+) +(\d) finished", text, re.MULTILINE)

    def take(depth: int) -> Drawn:
        taken = []
        while rows and int(rows[0][1]) == depth:
            taken.append((rows.pop(0)[0], take(depth + 1)))
        return sorted(taken)

    return take(0)


def micro_usd(text: str) -> int:
    return int(text.replace(".", ""))


def test_a_directory_that_cannot_be_made_is_reported_before_the_agents_begin(command_line: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = command_line.run("demo", "--keep", str(tmp_path / "file" / "kept"))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert re.search(pattern_of("exit 2: the demo's files where no directory can be made"), result.stderr)
    assert str(tmp_path / "file" / "kept") in result.stderr


def test_a_directory_that_exists_is_not_overwritten(command_line: CommandLine, tmp_path: Path) -> None:
    result = command_line.run("demo", "--keep", str(tmp_path))
    assert result.exit_code == 2
    assert re.search(pattern_of("exit 2: the demo's files in a directory that exists"), result.stderr)
    assert str(tmp_path) in result.stderr
