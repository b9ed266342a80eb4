"""The LLMs of `[[llms]]`, and the same fields in a profile: which LLM is called, with which key, at which server."""

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from a2a_gateway.agents.llm.credentials import llm_secrets
from a2a_gateway.agents.profiles.catalogue import ProfileCatalog
from a2a_gateway.agents.recipe import AgentRecipe
from a2a_gateway.llm_settings import LLMSettings
from a2a_gateway.runs.model import ProfileProblem
from tests.agents.profiles.place import Place

KEYS = {"KEY_A": "sk-a-0123456789", "KEY_OWN": "sk-own-0123456789", "OPENAI_API_KEY": "sk-openai-0123456789"}
SERVER = "https://llm.test/v1"
PRICED = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
A = {"name": "a", "model": "openai/model-a", "base_url": SERVER, "api_key_env": "KEY_A", **PRICED}


def open_with(place: Place, *llms: dict[str, Any], environ: dict[str, str] | None = None, **settings: Any) -> ProfileCatalog:
    entries = tuple(LLMSettings.model_validate(llm) for llm in llms)
    return place.open({**KEYS, **(environ or {})}, llms=entries, **settings)


def write_profile(place: Place, model: str, block: str = "") -> Path:
    lines = "".join(f"  {line}\n" for line in block.splitlines())
    return place.write("p.md", f"---\nname: p\nmodel: {model}\n{'a2a:' if lines else ''}\n{lines}---\n")


def called_with(recipe: AgentRecipe) -> tuple[str, str | None, str | None]:
    """Model, key and base URL of the LLM."""
    key = recipe.llm.api_key
    return recipe.llm.model, key.get_secret_value() if isinstance(key, SecretStr) else key, recipe.llm.base_url


def messages_of(catalog: ProfileCatalog) -> list[str]:
    return [problem.message for problem in catalog.problems()]


def test_a_profile_names_an_entry_and_gets_its_server_key_and_fields(bare_place: Place) -> None:
    write_profile(bare_place, "a")
    catalog = open_with(bare_place, {**A, "context_length": 65_000, "vision": True, "stream": False})
    recipe = catalog.recipe("p")
    assert called_with(recipe) == ("openai/model-a", "sk-a-0123456789", SERVER)
    assert (recipe.profile.context_tokens, recipe.profile.vision, recipe.llm.stream) == (65_000, True, False)
    assert (recipe.input_usd_per_token, recipe.profile.price_source) == (1e-6, "configured")
    assert catalog.problems() == ()


def test_the_fields_of_a_profile_overrule_those_of_its_entry(bare_place: Place) -> None:
    write_profile(bare_place, "a", "context_length: 32000\napi_key_env: KEY_OWN\nparameters: {top_p: 0.5}")
    parameters = {"temperature": 0.25, "top_p": 1.0, "extra_headers": {"x-team": "one"}}
    recipe = open_with(bare_place, {**A, "context_length": 65_000, "parameters": parameters}).recipe("p")
    assert called_with(recipe) == ("openai/model-a", "sk-own-0123456789", SERVER)
    assert (recipe.llm.temperature, recipe.llm.top_p, recipe.llm.extra_headers) == (0.25, 0.5, {"x-team": "one"})
    assert recipe.profile.context_tokens == 32_000


@pytest.mark.parametrize(
    ("block", "key"),
    [("", "no-key"), ("api_key_env: KEY_OWN", "sk-own-0123456789")],
    ids=["without a key", "with a key of its own"],
)
def test_another_server_gets_neither_the_key_nor_the_headers_of_the_entry(bare_place: Place, block: str, key: str) -> None:
    write_profile(bare_place, "a", f"base_url: https://other.test/v1\n{block}")
    secret = {"extra_headers": {"authorization": "Bearer sk-a-in-a-header"}, "organization": "one"}
    recipe = open_with(bare_place, {**A, "parameters": secret}).recipe("p")
    assert called_with(recipe) == ("openai/model-a", key, "https://other.test/v1")
    assert (recipe.llm.extra_headers, recipe.llm.parameters) == (None, {})


@pytest.mark.parametrize("block", ["base_url: https://other.test/v1", "api_key_env: KEY_OWN"])
def test_a_profile_with_its_own_server_or_key_uses_neither_of_the_environment(bare_place: Place, block: str) -> None:
    write_profile(bare_place, "openai/model-x", block)
    environ = {"LLM_MODEL": "openai/gpt-4o", "LLM_API_KEY": "sk-llm", "LLM_BASE_URL": "https://environment.test/v1"}
    _, key, base_url = called_with(open_with(bare_place, environ=environ).recipe("p"))
    assert (key, base_url) in [("no-key", "https://other.test/v1"), ("sk-own-0123456789", None)]


def test_another_server_does_not_get_the_key_that_openhands_saved(bare_place: Place) -> None:
    bare_place.save_llm("fast", base_url=SERVER, extra_headers={"x-key": "secret"})
    write_profile(bare_place, "fast", "base_url: https://other.test/v1\nparameters: {temperature: 0.5}")
    recipe = open_with(bare_place).recipe("p")
    assert called_with(recipe) == ("openai/gpt-4o", "no-key", "https://other.test/v1")
    assert (recipe.llm.extra_headers, recipe.llm.temperature) == (None, 0.5)


def test_a_provider_s_own_server_gets_the_provider_s_key(bare_place: Place) -> None:
    recipe = open_with(bare_place, {"name": "a", "model": "openai/gpt-4o"}).recipe("a")
    assert called_with(recipe) == ("openai/gpt-4o", "sk-openai-0123456789", None)


def test_without_an_llm_in_the_environment_the_first_entry_is_the_default(bare_place: Place) -> None:
    write_profile(bare_place, "inherit")
    entries = A, {**A, "name": "b", "model": "openai/model-b"}
    catalog = open_with(bare_place, *entries)
    assert [catalog.get(name).llm_model for name in ("p", "default", "b")] == [
        "openai/model-a",
        "openai/model-a",
        "openai/model-b",
    ]
    catalog = open_with(bare_place, *entries, environ={"LLM_MODEL": "openai/gpt-4o"})
    assert [catalog.get(name).llm_model for name in ("p", "default")] == ["openai/gpt-4o", "openai/gpt-4o"]


def test_an_entry_wins_over_a_saved_llm_and_loses_to_a_profile_of_its_name(bare_place: Place) -> None:
    bare_place.save_llm("a", model="openai/gpt-4o-mini")
    bare_place.save_llm("p", model="openai/gpt-4o-mini")
    write_profile(bare_place, "a")
    catalog = open_with(bare_place, A, {**A, "name": "p", "model": "openai/hidden"})
    assert {profile.name: profile.llm_model for profile in catalog.list()} == {
        "a": "openai/model-a",
        "p": "openai/model-a",
        "default": "openai/model-a",
    }


def test_a_variable_that_is_not_set_is_a_problem_of_the_entry_and_of_its_profiles(bare_place: Place) -> None:
    path = write_profile(bare_place, "a")
    catalog = open_with(bare_place, {**A, "api_key_env": "MISSING"})
    message = "api_key_env: the variable MISSING is not set; set it, and start the gateway again"
    assert catalog.problems() == (
        ProfileProblem(str(path), message, 3),
        ProfileProblem("gateway.toml [[llms]] a", message),
    )
    assert catalog.list() == []


def test_a_key_in_the_place_of_a_variable_s_name_is_not_quoted(bare_place: Place) -> None:
    catalog = open_with(bare_place, {**A, "api_key_env": "gsk_0123456789abcdef"})
    assert [problem.message for problem in catalog.problems()] == [
        "api_key_env: the variable that it names is not set; set it, and start the gateway again"
    ]


def test_a_fault_of_a_profile_s_own_field_has_the_line_of_that_field(bare_place: Place) -> None:
    path = write_profile(bare_place, "a", "api_key_file: missing.key")
    [problem] = open_with(bare_place, A).problems()
    assert (problem.path, problem.line) == (str(path), 5)
    assert problem.message.startswith(f"api_key_file: {bare_place.profiles / 'missing.key'} cannot be read")


def test_the_key_in_a_file_is_read_again_when_it_changes(bare_place: Place) -> None:
    (bare_place.profiles / "llm.key").write_text("sk-first-0123456789\n")
    write_profile(bare_place, "a", "api_key_file: llm.key")
    catalog = open_with(bare_place, A)
    assert called_with(catalog.recipe("p"))[1] == "sk-first-0123456789"
    assert not catalog.refresh()
    (bare_place.profiles / "llm.key").write_text("sk-second")
    bare_place.later()
    assert called_with(catalog.recipe("p"))[1] == "sk-second"
    (bare_place.profiles / "llm.key").unlink()
    bare_place.later()
    assert [problem.is_warning for problem in catalog.problems()] == [False]
    (bare_place.profiles / "llm.key").write_text("sk-third")
    bare_place.later()
    assert called_with(catalog.recipe("p"))[1] == "sk-third"


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: path.write_text(" \n"), id="empty"),
        pytest.param(lambda path: path.write_text("sk-one\nsk-two\n"), id="two keys"),
        pytest.param(lambda path: path.write_bytes(b"\xff\xfe\x00"), id="no text"),
        pytest.param(lambda path: path.write_text("sk-" + "x" * 10**6), id="huge"),
        pytest.param(lambda path: path.mkdir(), id="a directory"),
        pytest.param(make_pipe, id="a pipe without a writer"),
        pytest.param(lambda path: path.symlink_to(path), id="a circular link"),
    ],
)
def test_a_file_without_a_key_is_a_problem_of_the_llm(bare_place: Place, make: Any) -> None:
    path = bare_place.root / "llm.key"
    make(path)
    entry = {"name": "a", "model": "openai/model-a", "base_url": SERVER, "api_key_file": str(path), **PRICED}
    catalog = open_with(bare_place, entry)
    assert len(catalog.problems()) == 1
    assert all(message.startswith(f"api_key_file: {path}") for message in messages_of(catalog))
    assert "sk-" not in str(catalog.problems())


def test_every_variable_that_holds_a_key_is_concealed_also_of_a_later_profile(bare_place: Place) -> None:
    catalog = open_with(bare_place, {**A, "api_key_env": "KEY_A"})
    write_profile(bare_place, "a", "base_url: https://other.test/v1\napi_key_env: KEY_OWN")
    bare_place.later()
    assert called_with(catalog.recipe("p"))[1] == "sk-own-0123456789"
    assert bare_place.concealed == [{"KEY_A"}, {"KEY_A", "KEY_OWN"}]


def test_parameters_reach_fields_of_the_sdk_or_each_request(bare_place: Place) -> None:
    parameters = {"temperature": 0.5, "extra_body": {"top_n": 3}, "api_version": "v2", "keep_alive": "5m", "seed": 7}
    recipe = open_with(bare_place, {**A, "parameters": parameters}).recipe("a")
    llm = recipe.llm
    assert (llm.temperature, llm.litellm_extra_body, llm.api_version, llm.seed) == (0.5, {"top_n": 3}, "v2", 7)
    assert llm.capability_overrides == {"supports_sampling_params": True}
    assert llm.parameters == {"keep_alive": "5m"}
    assert recipe.condenser_llm is not None
    assert recipe.condenser_llm.parameters == llm.parameters


def test_a_temperature_above_what_the_provider_accepts_is_reduced(bare_place: Place) -> None:
    entry = {"name": "a", "model": "anthropic/claude-3-haiku", "parameters": {"temperature": 1.5}}
    assert open_with(bare_place, entry).recipe("a").llm.temperature == 1.0


def test_a_parameter_of_a_wrong_type_is_a_problem_without_its_value(bare_place: Place) -> None:
    catalog = open_with(bare_place, {**A, "parameters": {"extra_headers": "Bearer sk-secret"}})
    assert len(catalog.problems()) == 1
    assert "extra_headers" in messages_of(catalog)[0]
    assert "sk-secret" not in str(catalog.problems())


def test_credentials_in_parameters_are_masked_and_not_shown(bare_place: Place) -> None:
    headers = {"authorization": "Bearer sk-header-0123456789", "x-team": "a team of ours"}
    parameters = {"extra_headers": headers, "azure_ad_token": "token-0123456789", "nested": {"api_secret": "nested-0123456789"}}
    recipe = open_with(bare_place, {**A, "parameters": parameters}).recipe("a")
    secrets = set(llm_secrets(recipe.llm))
    assert secrets >= {"sk-a-0123456789", "sk-header-0123456789", "token-0123456789", "nested-0123456789"}
    assert "a team of ours" not in secrets
    entry = LLMSettings.model_validate({**A, "parameters": parameters})
    assert not [secret for secret in secrets if secret in repr(entry) + repr(recipe)]


@pytest.mark.parametrize("provider", ["custom_openai", "hosted_vllm", "litellm_proxy", "lm_studio", "xinference"])
def test_a_provider_without_a_server_is_refused_instead_of_called_at_openai(bare_place: Place, provider: str) -> None:
    entry = {"name": "a", "model": f"{provider}/m", "context_length": 32_000, **PRICED}
    catalog = open_with(bare_place, entry)
    assert catalog.list() == []
    assert "set base_url" in messages_of(catalog)[0]
    named = {f"{provider.upper()}_API_BASE": SERVER}
    assert called_with(open_with(bare_place, entry, environ=named).recipe("a"))[2] == SERVER
    assert called_with(open_with(bare_place, {**entry, "base_url": SERVER}).recipe("a"))[2] == SERVER


@pytest.mark.parametrize(
    ("entry", "effort"),
    [
        ({}, None),
        ({"parameters": {"reasoning_effort": "high"}}, "high"),
        ({"model": "openai/gpt-5"}, "high"),
        ({"base_url": None}, "high"),
    ],
    ids=["unknown", "stated", "known to reason", "at the provider's own server"],
)
def test_a_server_of_one_s_own_is_not_asked_for_an_effort_that_no_setting_states(
    bare_place: Place, entry: dict[str, Any], effort: str | None
) -> None:
    assert open_with(bare_place, {**A, **entry}).recipe("a").llm.reasoning_effort == effort


def test_ollama_is_called_where_it_has_tools_and_with_the_stated_context(bare_place: Place) -> None:
    entry = {"name": "a", "model": "ollama/llama3.1", "base_url": "http://127.0.0.1:11434/v1/", "context_length": 32_000}
    catalog = open_with(bare_place, entry)
    recipe = catalog.recipe("a")
    assert called_with(recipe) == ("ollama_chat/llama3.1", "no-key", "http://127.0.0.1:11434")
    assert (recipe.llm.parameters, recipe.profile.context_tokens) == ({"num_ctx": 32_000}, 32_000)
    assert (recipe.profile.price_source, catalog.problems()) == ("local", ())


def test_ollama_without_a_stated_context_is_served_with_a_warning(bare_place: Place) -> None:
    catalog = open_with(bare_place, environ={"LLM_MODEL": "ollama/llama3.1"})
    [problem] = catalog.problems()
    assert (problem.path, problem.is_warning) == ("LLM_MODEL", True)
    assert "set context_length, for example to 32768" in problem.message
    assert catalog.get("default").price_source == "local"


def test_a_small_context_is_refused_until_the_settings_state_it(bare_place: Place) -> None:
    entry = {"name": "a", "model": "openai/gpt-4", "api_key_env": "KEY_A"}
    catalog = open_with(bare_place, entry)
    assert catalog.list() == []
    assert all("set context_length" in message and "8192 tokens" in message for message in messages_of(catalog))
    catalog = open_with(bare_place, {**entry, "context_length": 8_192})
    assert catalog.get("a").context_tokens == 8_192
    assert [problem.is_warning for problem in catalog.problems()] == [True]
    assert open_with(bare_place, entry, environ={"ALLOW_SHORT_CONTEXT_WINDOWS": "true"}).get("a").context_tokens == 8_192


@pytest.mark.parametrize(
    ("entry", "settings", "source"),
    [
        ({}, {}, None),
        ({}, {"unpriced_usd_per_mtok": 5}, "assumed"),
        ({}, {"budget_usd": "none"}, None),
        (PRICED, {}, "configured"),
        ({"base_url": "http://192.168.0.7:8000/v1"}, {"unpriced_usd_per_mtok": 5}, "local"),
        ({"base_url": "http://192.168.0.7:8000/v1", **PRICED}, {}, "configured"),
        ({"model": "litellm_proxy/m", "base_url": "http://127.0.0.1:9/v1"}, {}, None),
        ({"model": "openai/gpt-4o", "base_url": "http://127.0.0.1:9/v1"}, {}, "litellm"),
    ],
)
def test_an_llm_without_a_price_is_reported_before_the_first_request(
    bare_place: Place, entry: dict[str, Any], settings: dict[str, Any], source: str | None
) -> None:
    catalog = open_with(bare_place, {"name": "a", "model": "openai/m", "base_url": SERVER, **entry}, **settings)
    assert catalog.get("a").price_source == source
    warned = [problem for problem in catalog.problems() if problem.topic == "price"]
    assert bool(warned) == (source is None and "budget_usd" not in settings)
    for problem in warned:
        assert problem.is_warning
        assert "add input_usd_per_mtok and output_usd_per_mtok" in problem.message
        assert "A2A_UNPRICED_USD_PER_MTOK" in problem.message
