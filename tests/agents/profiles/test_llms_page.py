"""Each block of TOML on the page about LLMs can be pasted: the settings accept it, and each LLM in it can be built."""

import re
from pathlib import Path

import pytest

from a2a_gateway.agents.profiles.catalogue import ProfileCatalog
from a2a_gateway.agents.profiles.llm_environment import LLMEnvironment
from a2a_gateway.agents.profiles.llm_list import list_llms
from a2a_gateway.llm_settings import LLMSettings, secret_variables
from a2a_gateway.settings import load_settings
from tests.support.pages import ROOT, codes_in, section_of

PAGE = (ROOT / "docs" / "llms.md").read_text()
SNIPPETS = re.findall(r"```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PROVIDERS = ["OpenAI", "Anthropic", "OpenRouter", "Azure", "Ollama", "vLLM", "LM Studio", "LiteLLM proxy"]


def test_every_provider_has_a_section_with_settings_to_paste() -> None:
    assert re.findall(r"^## (.+)\n\n```toml", PAGE, re.MULTILINE) == PROVIDERS


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_settings_from_the_page_make_llms_that_can_be_used(snippet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    key_file = tmp_path / ".config" / "a2a" / "openai.key"
    key_file.parent.mkdir(parents=True)
    key_file.write_text("sk-of-the-file\n")
    config = tmp_path / "gateway.toml"
    config.write_text(snippet)
    settings = load_settings(config, profiles=(tmp_path,))
    environ = dict.fromkeys(secret_variables(settings.llms), "sk-of-the-page") | {"OH_PERSISTENCE_DIR": str(tmp_path)}
    catalog = ProfileCatalog(settings, LLMEnvironment.read(environ))
    listed = list_llms(catalog, settings)
    assert [llm.name for llm in listed] == [llm.name for llm in settings.llms]
    assert [(llm.problem, llm.warnings) for llm in listed] == [(None, ())] * len(listed)
    assert all(llm.usd_per_mtok is not None for llm in listed)
    assert {f"openhands_{llm.name}" for llm in listed} <= {profile.model for profile in catalog.list()}


def test_the_page_names_every_field() -> None:
    assert set(LLMSettings.model_fields) - set(codes_in(section_of(PAGE, "Fields"))) == set()
