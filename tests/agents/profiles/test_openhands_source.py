"""Profiles that OpenHands itself has saved: written here with its own stores, encrypted keys included."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from openhands.sdk.llm.provider_connection_store import ProviderConnection, ProviderConnectionStore
from openhands.sdk.profiles.agent_profile import ACPAgentProfile, ProfileVerificationSettings
from openhands.sdk.profiles.agent_profile_store import AgentProfileStore
from openhands.sdk.settings.model import LLMSummarizingCondenserSettings, NoOpCondenserSettings
from openhands.sdk.tool import Tool
from openhands.sdk.utils.cipher import Cipher
from pydantic import SecretStr

from a2a_gateway.agents.recipe import AgentRecipe, ToolSpec
from a2a_gateway.errors import ConfigurationError, ModelNotFound
from a2a_gateway.runs.model import Profile, ProfileProblem
from tests.agents.profiles.place import Place

KEY = "the key that OpenHands was started with"
NO_CIPHER_KEY = "its key is encrypted: set OH_SECRET_KEY"
DEFAULT_TOOLS = ("terminal", "file_editor", "task_tracker", "delegate")


def key_of(recipe: AgentRecipe) -> str | None:
    key = recipe.llm.api_key
    return key.get_secret_value() if isinstance(key, SecretStr) else key


def test_an_llm_profile_is_served_as_the_default_agent_on_that_llm(bare_place: Place) -> None:
    path = bare_place.save_llm("fast", model="openai/gpt-4o-mini")

    recipe = bare_place.open().recipe("fast")

    assert recipe.profile == Profile(
        name="fast",
        description="OpenHands agent on openai/gpt-4o-mini, with terminal, file_editor, task_tracker, delegate.",
        source=str(path),
        llm_model="openai/gpt-4o-mini",
        context_tokens=128_000,
        max_output_tokens=16_384,
        vision=True,
        tools=DEFAULT_TOOLS,
        may_delegate=True,
        price_source="litellm",
    )
    assert key_of(recipe) == "sk-saved"


def test_prices_of_an_llm_profile_count_as_the_profiles_own(bare_place: Place) -> None:
    bare_place.save_llm("fast", input_cost_per_token=1e-6, output_cost_per_token=2e-6)

    recipe = bare_place.open().recipe("fast")

    assert (recipe.input_usd_per_token, recipe.output_usd_per_token) == (1e-6, 2e-6)


def test_an_agent_profile_brings_its_llm_tools_persona_and_prompt(bare_place: Place) -> None:
    bare_place.save_llm("fast", model="openai/gpt-4o-mini")
    path = bare_place.save_agent(
        "reviewer",
        tools=[Tool(name="TerminalTool", params={"no_change_timeout_seconds": 5}), Tool(name="grep"), Tool(name="task_tool_set")],
        persona="You are a reviewer.",
        system_message_suffix="Be brief.",
        condenser=LLMSummarizingCondenserSettings(max_size=60),
    )

    recipe = bare_place.open().recipe("reviewer")

    assert recipe.profile == Profile(
        name="reviewer",
        description="OpenHands agent on openai/gpt-4o-mini, with terminal, grep, delegate.",
        source=str(path),
        llm_model="openai/gpt-4o-mini",
        context_tokens=128_000,
        max_output_tokens=16_384,
        vision=True,
        tools=("terminal", "grep", "delegate"),
        may_delegate=True,
        price_source="litellm",
    )
    assert recipe.tools[:2] == (ToolSpec("terminal", {"no_change_timeout_seconds": 5}), ToolSpec("grep"))
    assert (recipe.persona, recipe.system_prompt, recipe.system_suffix) == ("You are a reviewer.", None, "Be brief.")
    assert (recipe.condenser_llm is not None, recipe.condenser_max_size) == (True, 60)
    assert key_of(recipe) == "sk-saved"


@pytest.mark.parametrize("tools", [None, []])
def test_an_agent_profile_without_tools_gets_the_default_ones_and_an_empty_list_none(
    bare_place: Place, tools: list[Tool] | None
) -> None:
    bare_place.save_llm("fast")
    bare_place.save_agent("plain", tools=tools)

    assert bare_place.open().get("plain").tools == (DEFAULT_TOOLS if tools is None else ())


@pytest.mark.parametrize("condenser", [NoOpCondenserSettings(), LLMSummarizingCondenserSettings(enabled=False)])
def test_an_agent_profile_can_do_without_the_condenser(bare_place: Place, condenser: object) -> None:
    bare_place.save_llm("fast")
    bare_place.save_agent("plain", condenser=condenser)

    assert bare_place.open().recipe("plain").condenser_llm is None


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "missing LLM profile": ({"llm_profile_ref": "gone"}, "llm_profile_ref", "there is no LLM profile 'gone'"),
    "MCP server of the user": (
        {"mcp_server_refs": ["github"]},
        "mcp_server_refs",
        "MCP servers of OpenHands' settings are not offered to served agents",
    ),
    "unknown tool": (
        {"tools": [Tool(name="browser_tool_set")]},
        "name",
        "unknown tool 'browser_tool_set'; known are terminal, file_editor, grep, glob, task_tracker, delegate",
    ),
    "unknown parameter": (
        {"tools": [Tool(name="TerminalTool", params={"terminal_type": "tmux"})]},
        "terminal_type",
        "the tool terminal has no parameter 'terminal_type'",
    ),
    "impossible duration": (
        {"tools": [Tool(name="terminal", params={"no_change_timeout_seconds": "soon"})]},
        "no_change_timeout_seconds",
        "the tool terminal's no_change_timeout_seconds must be a number of seconds above 0",
    ),
    "impossible environment": (
        {"tools": [Tool(name="terminal", params={"env": {"A": 5}})]},
        "env",
        "the tool terminal's env must be names of variables with their values, all text",
    ),
    "impossible variable": (
        {"tools": [Tool(name="terminal", params={"env": {"A; rm -r .": "x"}})]},
        "env",
        "the tool terminal's env must be names of variables with their values, all text",
    ),
    "LLM switching": (
        {"enable_classify_and_switch_llm_tool": True},
        "enable_classify_and_switch_llm_tool",
        "a tool that changes the agent's LLM is not offered",
    ),
    "critic": ({"verification": ProfileVerificationSettings(critic_enabled=True)}, "critic_enabled", "a critic is not run"),
}


@pytest.mark.parametrize(("fields", "at", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_an_agent_profile_that_cannot_be_honoured_is_reported_with_its_line(
    bare_place: Place, fields: dict[str, Any], at: str, message: str
) -> None:
    bare_place.save_llm("fast")
    path = bare_place.save_agent("agent", **fields)
    lines = path.read_text().splitlines()
    # The profile has a "name" too; that of its tool comes last.
    line = max(number for number, text in enumerate(lines, 1) if f'"{at}"' in text)
    expected = line if at != "name" else line - 1  # of an element, the line of its opening brace

    assert bare_place.open().problems() == (ProfileProblem(str(path), message, expected),)


def test_an_acp_agent_is_refused(bare_place: Place) -> None:
    AgentProfileStore(bare_place.openhands / "agent-profiles").save(ACPAgentProfile(name="claude", acp_server="claude-code"))

    with pytest.raises(ModelNotFound, match=r"claude\.json, line \d+: .*\bACP\b"):
        bare_place.open().get("claude")


@pytest.mark.parametrize(
    ("damage", "line", "message"),
    [
        (lambda text: text[: len(text) // 2], None, "is not JSON: "),
        (lambda text: "[]", None, "cannot be parsed: TypeError"),
        (
            lambda text: text.replace('"revision": 0', '"revision": -1'),
            6,
            "revision: Input should be greater than or equal to 0",
        ),
    ],
    ids=["half written", "no object", "invalid value"],
)
def test_a_damaged_agent_profile_is_reported_and_the_others_live(
    bare_place: Place, damage: Callable[[str], str], line: int | None, message: str
) -> None:
    bare_place.save_llm("fast")
    bare_place.save_agent("good")
    path = bare_place.save_agent("bad")
    path.write_text(damage(path.read_text()))

    catalog = bare_place.open()
    (problem,) = catalog.problems()

    assert [profile.name for profile in catalog.list()] == ["fast", "good"]
    assert problem.path == str(path)
    assert problem.message.startswith(message)
    assert line is None or problem.line == line


def test_a_damaged_llm_profile_is_reported_without_its_key(bare_place: Place) -> None:
    path = bare_place.save_llm("fast", api_key=SecretStr("sk-very-secret"))
    values = {**json.loads(path.read_text()), "timeout": "sk-very-secret"}
    path.write_text(json.dumps(values, indent=2))
    line = next(number for number, text in enumerate(path.read_text().splitlines(), 1) if '"timeout"' in text)

    (problem,) = bare_place.open().problems()

    assert (problem.path, problem.line) == (str(path), line)
    assert problem.message == "timeout: Input should be a valid integer, unable to parse string as an integer"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"model": 5}', "cannot be parsed: AttributeError"),
        ('{"model": ""}', "the definition: model must be specified in LLM"),
        ('{"model": "openai/x", "schema_version": 99}', "LLM profile schema_version 99 is newer than supported version 1"),
        (
            '{"model": "openai/x", "auth_type": "subscription"}',
            "an LLM by subscription needs a login, which a gateway cannot do; use an API key",
        ),
        ("[" * 100_000, "cannot be parsed: RecursionError"),
        ("{", "is not JSON: Expecting property name enclosed in double quotes"),
    ],
    ids=["no text", "blank", "from the future", "subscription", "deep", "half"],
)
def test_whatever_an_llm_profile_holds_the_others_live(bare_place: Place, text: str, message: str) -> None:
    bare_place.save_llm("good")
    bad = bare_place.write("bad.json", text, directory=bare_place.openhands / "profiles")

    catalog = bare_place.open()

    assert [profile.name for profile in catalog.list()] == ["good"]
    assert [(problem.path, problem.message) for problem in catalog.problems()] == [(str(bad), message)]


def test_encrypted_keys_are_decrypted_with_openhands_key(bare_place: Place) -> None:
    path = bare_place.save_llm("fast", cipher_key=KEY)
    bare_place.save_agent("agent")
    assert "sk-saved" not in path.read_text()

    catalog = bare_place.open({"OH_SECRET_KEY": KEY})

    assert (key_of(catalog.recipe("fast")), key_of(catalog.recipe("agent"))) == ("sk-saved", "sk-saved")


@pytest.mark.parametrize(
    "environ",
    [
        {"OH_SECRET_KEY": "new", "OH_PREVIOUS_SECRET_KEYS": json.dumps(["other", KEY])},
        {"OH_SECRET_KEY": "new", "OH_PREVIOUS_SECRET_KEYS_0": "other", "OH_PREVIOUS_SECRET_KEYS_1": KEY},
        {"SESSION_API_KEY": KEY},
        {"OH_SESSION_API_KEYS_0": KEY},
    ],
    ids=["rotated, as a list", "rotated, numbered", "old session key", "session key"],
)
def test_keys_are_decrypted_with_every_key_that_openhands_would_try(bare_place: Place, environ: dict[str, str]) -> None:
    bare_place.save_llm("fast", cipher_key=KEY)

    assert key_of(bare_place.open(environ).recipe("fast")) == "sk-saved"


def test_a_wrong_cipher_key_is_an_error_at_the_start(bare_place: Place) -> None:
    bare_place.save_llm("plain")
    bare_place.save_llm("fast", cipher_key=KEY)

    with pytest.raises(ConfigurationError) as caught:
        bare_place.open({"OH_SECRET_KEY": "a wrong one"})

    assert "(fast)" in caught.value.message
    assert "OH_PREVIOUS_SECRET_KEYS" in caught.value.message
    assert "a wrong one" not in caught.value.message


def test_a_key_that_cannot_be_decrypted_breaks_the_profiles_that_use_it(bare_place: Place) -> None:
    catalog = bare_place.open({"OH_SECRET_KEY": "another"})
    path = bare_place.save_llm("fast", cipher_key=KEY)
    agent = bare_place.save_agent("agent")
    bare_place.later()

    problems = {problem.path: problem.message for problem in catalog.problems()}

    reason = "its key was encrypted with another OH_SECRET_KEY; set that one, or add it to OH_PREVIOUS_SECRET_KEYS"
    assert problems == {str(path): reason, str(agent): f"LLM profile fast: {reason}"}
    assert list(catalog.list()) == []


def test_an_encrypted_key_is_never_sent_as_it_is_when_there_is_no_cipher_key(bare_place: Place) -> None:
    path = bare_place.save_llm("fast", cipher_key=KEY)
    line = next(number for number, text in enumerate(path.read_text().splitlines(), 1) if '"api_key"' in text)

    catalog = bare_place.open()

    assert catalog.problems() == (ProfileProblem(str(path), NO_CIPHER_KEY, line),)
    with pytest.raises(ModelNotFound, match="OH_SECRET_KEY"):
        catalog.get("fast")


def connect(place: Place, cipher_key: str) -> None:
    connection = ProviderConnection(
        id="shared",
        display_name="Shared",
        api_key=SecretStr("sk-shared"),
        base_url="http://llm.test/v1",
        created_at=1,
        updated_at=1,
    )
    ProviderConnectionStore(place.openhands / "provider-connections").create(connection, cipher=Cipher(cipher_key))
    place.save_llm("fast", api_key=None, provider_connection_id="shared")


def test_an_llm_profile_gets_its_key_from_the_connection_that_it_names(bare_place: Place) -> None:
    connect(bare_place, KEY)

    recipe = bare_place.open({"OH_SECRET_KEY": KEY}).recipe("fast")

    assert (key_of(recipe), recipe.llm.base_url) == ("sk-shared", "http://llm.test/v1")


def test_a_wrong_cipher_key_for_a_connection_is_an_error_at_the_start_too(bare_place: Place) -> None:
    connect(bare_place, KEY)

    with pytest.raises(ConfigurationError):
        bare_place.open({"OH_SECRET_KEY": "a wrong one"})


def test_an_encrypted_connection_without_a_cipher_key_breaks_its_profile(bare_place: Place) -> None:
    connect(bare_place, KEY)

    (problem,) = bare_place.open().problems()

    assert problem.message == NO_CIPHER_KEY


def test_a_connection_that_is_gone_breaks_its_profile(bare_place: Place) -> None:
    bare_place.save_llm("fast", api_key=None, provider_connection_id="shared")

    (problem,) = bare_place.open().problems()

    assert problem.message == "there is no provider connection 'shared'"


@pytest.mark.parametrize(("text", "cause"), [("{", "ValueError"), ("[" * 100_000, "RecursionError")])
def test_connections_that_cannot_be_read_break_their_profile_only(bare_place: Place, text: str, cause: str) -> None:
    connect(bare_place, KEY)
    bare_place.save_llm("other")
    (bare_place.openhands / "provider-connections" / "provider_connections.json").write_text(text)

    catalog = bare_place.open({"OH_SECRET_KEY": KEY})

    assert [problem.message for problem in catalog.problems()] == [f"the provider connections cannot be read: {cause}"]
    assert [profile.name for profile in catalog.list()] == ["other"]


def test_reading_leaves_nothing_in_openhands_directory(bare_place: Place) -> None:
    path = bare_place.openhands / "profiles" / "fast.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"model": "openai/gpt-4o", "api_key": "k"}))

    bare_place.open().get("fast")

    assert sorted(item.relative_to(bare_place.root).as_posix() for item in bare_place.root.rglob("*")) == [
        "openhands",
        "openhands/profiles",
        "openhands/profiles/fast.json",
        "profiles",
    ]


def test_a_key_shows_in_nothing_that_can_be_printed(bare_place: Place) -> None:
    bare_place.save_llm("fast", extra_headers={"Authorization": "Bearer sk-header"})
    bare_place.save_agent("agent")
    bare_place.write("p.md", "---\nname: p\nmcp_config: {s: {url: 'https://mcp.test', headers: {Authorization: sk-mcp}}}\n---\n")

    catalog = bare_place.open({"LLM_MODEL": "openai/gpt-4o", "LLM_API_KEY": "sk-environment"})

    assert [profile.name for profile in catalog.list()] == ["agent", "default", "fast", "p"]
    shown = [repr(catalog.recipe(profile.name)) for profile in catalog.list()] + [repr(catalog.problems()), repr(vars(catalog))]
    assert "sk-" not in "".join(shown)
