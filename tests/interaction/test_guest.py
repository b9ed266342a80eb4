"""A gateway in an application's process: it changes nothing there that running agents does not need, and puts that back."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from a2a_gateway.agents.assembly import REQUIRED_PATCHES
from tests.support.collector import Collector, collecting

HOST = Path(__file__).with_name("guest_host.py")


def run_host(home: Path, kind: str, collector: Collector) -> dict[str, Any]:
    """Run an application that mounts a gateway, with the variables of a tracer; returns what it found changed."""
    switches = ("EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER", "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "OPENHANDS_SUPPRESS_BANNER")
    environ = {name: value for name, value in os.environ.items() if name not in switches}
    host = subprocess.run(
        [sys.executable, str(HOST), str(home), kind],
        env={**environ, "PYTHONPATH": os.pathsep.join(sys.path), **collector.variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert host.returncode == 0, host.stderr
    found: dict[str, Any] = json.loads(host.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("kind", ["sdk", "bare"])
def test_an_application_finds_its_process_as_it_left_it(tmp_path: Path, kind: str) -> None:
    with collecting() as collector:
        found = run_host(tmp_path, kind, collector)
    assert found["answer"].startswith("back at")
    assert found["after"] == []
    required = {f"{patch.owner}.{patch.name}" for patch in REQUIRED_PATCHES}
    if kind == "sdk":  # the application has started the tracer itself, when it imported the SDK
        assert set(found["inside"]) == required
        assert "/v1/traces" in collector.received
    else:
        assert set(found["inside"]) <= required
        assert collector.received == []
