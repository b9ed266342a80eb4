"""A real runner on a scripted LLM, for the tests of runs."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.agents.driver import Driver, a_recipe, an_llm, driving


@pytest.fixture
async def llm() -> AsyncIterator[ScriptedLLM]:
    async with ScriptedLLM() as server:
        yield server


@pytest.fixture
async def driver(llm: ScriptedLLM, tmp_path: Path) -> AsyncIterator[Driver]:
    async with driving(tmp_path, a_recipe(an_llm(llm.base_url), "terminal", "delegate")) as opened:
        yield opened
