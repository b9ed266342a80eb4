"""Fixtures of the tests of profiles."""

from pathlib import Path

import pytest

from tests.agents.profiles.place import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty place whose environment names an LLM."""
    return Place.make(tmp_path, {"LLM_MODEL": "openai/gpt-4o", "LLM_API_KEY": "sk-environment"})


@pytest.fixture
def bare_place(tmp_path: Path) -> Place:
    """An empty place whose environment says nothing."""
    return Place.make(tmp_path)
