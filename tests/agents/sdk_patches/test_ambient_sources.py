"""What lies about in a workspace or in the user's home never reaches a gateway's agent.

The same bait is laid twice: for the SDK as it is, which takes it, and for the SDK with its doors closed. So this fails when a
version of the SDK opens a door again, and also when the bait has gone stale and would prove nothing.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = Path(__file__).with_name("ambient_probe.py")


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The bait that was taken, with the doors `open` and `closed`."""
    place = tmp_path_factory.mktemp("ambient")
    home, workspace = place / "home", place / "workspace"
    for path in (home, workspace):
        path.mkdir()
    environ = {name: value for name, value in os.environ.items() if name != "OH_PERSISTENCE_DIR"}
    probe = subprocess.run(
        [sys.executable, str(PROBE), str(home), str(workspace)],
        env={**environ, "HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path), "OPENHANDS_SUPPRESS_BANNER": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert probe.returncode == 0, probe.stderr
    met = [json.loads(line) for line in probe.stdout.splitlines() if line.startswith("{")]
    return {doors: set(words) for item in met for doors, words in item.items()}


def test_the_sdk_by_itself_takes_the_bait(taken: dict[str, set[str]]) -> None:
    assert taken["open"] >= {
        "workspace-openhands-plugin-hook",
        "workspace-openhands-plugin-skill",
        "workspace-openhands-plugin-agent",
        "workspace-openhands-agent",
        "workspace-openhands-skill",
        "workspace-agents-plugin-hook",
        "workspace-agents-plugin-skill",
        "workspace-agents-plugin-agent",
        "workspace-agents-agent",
        "workspace-agents-skill",
        "workspace-instructions",
        "workspace-memory",
        "home-agents-plugin-hook",
        "home-agents-plugin-skill",
        "home-agents-plugin-agent",
        "home-agents-agent",
        "home-agents-skill",
        "home-openhands-agent",
        "home-openhands-skill",
        "home-identity",
        "home-memory",
    }


def test_a_gateways_agent_takes_none_of_it(taken: dict[str, set[str]]) -> None:
    assert taken["closed"] == set()
