"""One gateway for the tests that share it, on a scripted LLM; tests that need other settings start their own."""

from collections.abc import Iterator

import pytest

from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.support.gateway import GatewayUnderTest, scripted_gateway


@pytest.fixture(scope="session")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayUnderTest, ScriptedLLM]]:
    with scripted_gateway(tmp_path_factory.mktemp("gateway"), PROFILES, heartbeat_s=0.2, max_depth=25, max_runs=500) as pair:
        yield pair


@pytest.fixture
def gateway(_shared: tuple[GatewayUnderTest, ScriptedLLM]) -> GatewayUnderTest:
    return _shared[0]


@pytest.fixture
def llm(_shared: tuple[GatewayUnderTest, ScriptedLLM]) -> ScriptedLLM:
    return _shared[1]


_PRICES = "input_usd_per_mtok: 1.0, output_usd_per_mtok: 2.0"


def _profile(name: str, description: str, tools: str, settings: str = _PRICES) -> str:
    return f"---\nname: {name}\ndescription: {description}\ntools: [{tools}]\na2a: {{{settings}}}\n---\nYou work."


PROFILES = {
    "priced": _profile("priced", "Has prices and every tool.", "terminal, file_editor, delegate"),
    "mute": _profile("mute", "Narrates nothing.", "terminal", f"narration: none, {_PRICES}"),
    "shy": _profile("shy", "May call only itself.", "delegate", f"allowed_agents: [openhands_shy], {_PRICES}"),
    "sealed": _profile("sealed", "Works alone.", "terminal, file_editor", "workspace: isolated"),
    "poor": _profile("poor", "Has little money.", "terminal, delegate", f"budget_usd: 0.05, {_PRICES}"),
    "seeing": _profile("seeing", "Sees images.", "", "vision: true"),
}
"""Markdown definitions by name. Prices: 1 micro-USD per input token, 2 per output token."""
