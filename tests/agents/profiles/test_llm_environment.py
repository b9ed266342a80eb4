"""The conventional variables: which are read, which are secrets, and where their values go."""

import pytest
from litellm import validate_environment
from pydantic import SecretStr

from a2a_gateway.agents.profiles.llm_environment import LLMEnvironment
from a2a_gateway.agents.recipe import AgentRecipe
from a2a_gateway.runs.model import ProfileProblem
from tests.agents.profiles.place import Place

UNKNOWN = "neither an entry of [[llms]], nor one of OpenHands' LLM profiles, nor a model that LiteLLM knows"


def called_with(recipe: AgentRecipe) -> tuple[str, str | None, str | None]:
    """Model, key and base URL of the LLM."""
    key = recipe.llm.api_key
    return recipe.llm.model, key.get_secret_value() if isinstance(key, SecretStr) else key, recipe.llm.base_url


def test_the_variables_that_hold_secrets_are_named_and_no_others() -> None:
    secrets = {
        "LLM_API_KEY",
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "GEMINI_API_KEY",
        "AZURE_API_KEY",
        "HF_TOKEN",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_BEARER_TOKEN_BEDROCK",
        "OH_SECRET_KEY",
        "OH_PREVIOUS_SECRET_KEYS",
        "OH_PREVIOUS_SECRET_KEYS_3",
        "SESSION_API_KEY",
        "OH_SESSION_API_KEYS_0",
        "SOME_NEW_PROVIDER_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "DATAROBOT_API_TOKEN",
    }
    others = {
        "PATH",
        "HOME",
        "LLM_MODEL",
        "LLM_BASE_URL",
        "OH_PERSISTENCE_DIR",
        "AWS_REGION_NAME",
        "API_KEY_HINT",
        "TOKENIZERS_PARALLELISM",
    }

    assert set(LLMEnvironment.read(dict.fromkeys(secrets | others, "x")).secrets) == secrets


def test_no_secret_is_shown() -> None:
    environment = LLMEnvironment.read(
        {"LLM_API_KEY": "sk-1", "OPENAI_API_KEY": "sk-2", "OH_SECRET_KEY": "sk-3", "LLM_MODEL": "m"}
    )

    assert "sk-" not in repr(environment)


def test_blank_variables_count_as_not_set() -> None:
    assert LLMEnvironment.read({"LLM_MODEL": " ", "LLM_API_KEY": "", "OH_SECRET_KEY": " "}) == LLMEnvironment.read({})


# What LiteLLM itself asks for, for models of providers whose variable is not simply named after them, and of some where it is.
MODELS = {
    "openai/gpt-4o": "OPENAI_API_KEY",
    "gpt-4o": "OPENAI_API_KEY",
    "anthropic/claude-sonnet-4-5": "ANTHROPIC_API_KEY",
    "gemini/gemini-2.5-pro": "GEMINI_API_KEY",
    "mistral/mistral-large-latest": "MISTRAL_API_KEY",
    "deepseek/deepseek-chat": "DEEPSEEK_API_KEY",
    "openrouter/openai/gpt-4o": "OPENROUTER_API_KEY",
    "groq/llama-3.3-70b-versatile": "GROQ_API_KEY",
    "xai/grok-4": "XAI_API_KEY",
    "together_ai/meta-llama/Llama-3-70b": "TOGETHERAI_API_KEY",
    "perplexity/sonar": "PERPLEXITYAI_API_KEY",
    "fireworks_ai/accounts/fireworks/models/x": "FIREWORKS_AI_API_KEY",
    "huggingface/meta-llama/Llama-3": "HUGGINGFACE_API_KEY",
    "moonshot/kimi-k2": "MOONSHOT_API_KEY",
    "cohere/command-r": "COHERE_API_KEY",
}


@pytest.mark.parametrize(("model", "variable"), MODELS.items())
def test_a_providers_own_variable_still_works_though_the_process_forgets_it(bare_place: Place, model: str, variable: str) -> None:
    required = validate_environment(model)["missing_keys"]

    assert variable in required
    assert called_with(bare_place.open({"LLM_MODEL": model, variable: "sk-provider"}).recipe("default")) == (
        model,
        "sk-provider",
        None,
    )


def test_amazons_credentials_go_into_the_llms_own_fields(bare_place: Place) -> None:
    environ = {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "LLM_MODEL": "bedrock/anthropic.claude-3-sonnet-20240229-v1:0",
    }

    llm = bare_place.open(environ).recipe("default").llm

    assert (llm.aws_access_key_id, llm.aws_secret_access_key, llm.aws_session_token) == (
        SecretStr("id"),
        SecretStr("secret"),
        None,
    )


def test_the_llm_key_wins_over_the_providers(bare_place: Place) -> None:
    environ = {"LLM_MODEL": "openai/gpt-4o", "LLM_API_KEY": "sk-llm", "OPENAI_API_KEY": "sk-openai"}

    assert called_with(bare_place.open(environ).recipe("default")) == ("openai/gpt-4o", "sk-llm", None)


def test_another_model_of_the_same_provider_uses_the_same_key_and_address(bare_place: Place) -> None:
    bare_place.write("p.md", "---\nname: p\nmodel: openai/gpt-4o-mini\n---\n")
    environ = {"LLM_MODEL": "openai/gpt-4o", "LLM_API_KEY": "sk-llm", "LLM_BASE_URL": "http://llm.test/v1"}

    assert called_with(bare_place.open(environ).recipe("p")) == ("openai/gpt-4o-mini", "sk-llm", "http://llm.test/v1")


def test_a_key_is_not_sent_to_another_provider_than_it_was_given_for(bare_place: Place) -> None:
    bare_place.write("p.md", "---\nname: p\nmodel: anthropic/claude-sonnet-4-5\n---\n")
    environ = {"LLM_MODEL": "openai/gpt-4o", "LLM_API_KEY": "sk-llm", "LLM_BASE_URL": "http://llm.test/v1"}

    assert called_with(bare_place.open(environ).recipe("p")) == ("anthropic/claude-sonnet-4-5", None, None)
    with_key = bare_place.open({**environ, "ANTHROPIC_API_KEY": "sk-ant"})
    assert called_with(with_key.recipe("p")) == ("anthropic/claude-sonnet-4-5", "sk-ant", None)


def test_without_a_model_in_the_environment_its_key_is_for_every_definition(bare_place: Place) -> None:
    bare_place.write("p.md", "---\nname: p\nmodel: openai/our-own\n---\n")

    catalog = bare_place.open({"LLM_API_KEY": "sk-llm", "LLM_BASE_URL": "http://llm.test/v1"})

    assert [profile.name for profile in catalog.list()] == ["p"]
    assert called_with(catalog.recipe("p")) == ("openai/our-own", "sk-llm", "http://llm.test/v1")


def test_a_saved_llm_without_a_key_gets_its_providers(bare_place: Place) -> None:
    bare_place.save_llm("claude", model="anthropic/claude-sonnet-4-5", api_key=None)

    recipe = bare_place.open({"ANTHROPIC_API_KEY": "sk-ant", "LLM_API_KEY": "sk-llm"}).recipe("claude")

    assert called_with(recipe) == ("anthropic/claude-sonnet-4-5", "sk-ant", None)


@pytest.mark.parametrize(
    ("model", "line", "message"),
    [
        ("inherit", 3, "no LLM is set: name a model, set LLM_MODEL, or add an entry to [[llms]] in gateway.toml"),
        ("fats", 3, "'fats' is {unknown}; for a server of your own, add its protocol, as in openai/fats"),
        ("../../fast", 3, "'../../fast' is {unknown}; for a server of your own, add its protocol, as in openai/../../fast"),
    ],
)
def test_a_definition_whose_model_means_nothing_is_reported(bare_place: Place, model: str, line: int, message: str) -> None:
    path = bare_place.write("p.md", f"---\nname: p\nmodel: {model}\n---\n")

    assert bare_place.open().problems() == (ProfileProblem(str(path), message.format(unknown=UNKNOWN), line),)


@pytest.mark.parametrize("base_url", ["", "http://llm.test/v1"])
def test_an_environment_whose_model_means_nothing_is_reported(bare_place: Place, base_url: str) -> None:
    assert bare_place.open({"LLM_MODEL": "mine", "LLM_BASE_URL": base_url}).problems() == (
        ProfileProblem("LLM_MODEL", f"'mine' is {UNKNOWN}; for a server of your own, add its protocol, as in openai/mine"),
    )
