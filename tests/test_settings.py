"""Settings as people write them: what is meant is understood, and what cannot be meant is named."""

import os
from pathlib import Path

import pytest

from a2a_gateway.errors import ConfigurationError
from a2a_gateway.host.clock import SystemClock
from a2a_gateway.llm_settings import secret_variables
from a2a_gateway.peers.reconciliation import _KEYS_ARE_KEPT_S
from a2a_gateway.settings import LEAST_KEPT_S, Settings, load_settings, unknown_variables
from a2a_gateway.stores import open_store, store_url

LLM = '[[llms]]\nname = "a"\nmodel = "openai/m"\n'


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without settings, which is the current directory, too."""
    for name in [name for name in os.environ if name.startswith("A2A_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("A2A_HOST", "A2A_PORT", "A2A_DATA_DIR", "A2A_PROFILES", "A2A_BUDGET_USD", "A2A_PEERS"):
        monkeypatch.setenv(name, "")
    assert load_settings().model_dump() == Settings.model_construct(data_dir=Path.home() / ".a2a-gateway").model_dump()


def test_a_leading_tilde_is_the_home_where_no_shell_has_read_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "gateway.toml").write_text('data_dir = "~/data"\n')
    monkeypatch.setenv("A2A_PROFILES", "~/agents:here")
    settings = load_settings()
    assert (settings.data_dir, settings.profiles) == (home / "data", (home / "agents", Path("here")))


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("max_dept = 3", ["max_dept"]),
        ('host = ""', ["host"]),
        ('public_url = "gateway.example"', ["public_url"]),
        ("timeout_s = inf", ["timeout_s"]),
        ("timeout_s = inf\nport = -1", ["port", "timeout_s"]),
        ('budget_usd = "lots"', ["budget_usd"]),
        ('data_dir = "~nobody-of-that-name/data"', ["data_dir"]),
        ("idempotency_ttl_s = 86399", ["idempotency_ttl_s"]),
        ("run_retention_s = 3600", ["run_retention_s"]),
        ('[[peers]]\nid = "b"\nbase_url = "http://b.example"', [""]),
        ('[[llms]]\nname = "a"\nmodle = "m"', ["llms.a.model", "llms.a.modle"]),
        ('[[llms]]\nmodel = "m"', ["llms.(unnamed).name"]),
        ('[[llms]]\nname = "a b"\nmodel = " "', ["llms.a b.name", "llms.a b.model"]),
        ('[[llms]]\nname = "inherit"\nmodel = "m"', ["llms.inherit.name"]),
        (LLM + LLM, ["llms"]),
        (LLM + 'api_key = "sk-1"', ["llms.a.api_key"]),
        (LLM + 'api_key_env = "A"\napi_key_file = "f"', ["llms.a.api_key_file"]),
        (LLM + 'api_key_env = "sk-not-a-name"', ["llms.a.api_key_env"]),
        (LLM + 'api_key_env = "PATH"', ["llms.a.api_key_env"]),
        (LLM + 'api_key_env = "A2A_DATABASE_URL"', ["llms.a.api_key_env"]),
        (LLM + 'api_key_env = "OH_SECRET_KEY"', ["llms.a.api_key_env"]),
        (LLM + 'api_key_file = ""', ["llms.a.api_key_file"]),
        (LLM + 'base_url = "localhost:11434"', ["llms.a.base_url"]),
        (LLM + 'base_url = "http://user:sk-1@llm.test"', ["llms.a.base_url"]),
        (LLM + "input_usd_per_mtok = 3", ["llms.a"]),
        (LLM + "context_length = 0\nstream = 1", ["llms.a.context_length", "llms.a.stream"]),
        (LLM + "parameters = { max_tokens = 5 }", ["llms.a.parameters"]),
        (LLM + "parameters = { tools = [] }", ["llms.a.parameters"]),
        ("llms = 3", ["llms"]),
        ("llms = [3]", ["llms.0"]),
    ],
)
def test_a_setting_that_cannot_be_meant_is_named(home: Path, text: str, settings: list[str]) -> None:
    (home / "gateway.toml").write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    assert refused.value.details == {"settings": settings}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("base_ulr = 'x'", "llms.a.base_ulr: there is no such setting (did you mean base_url?)"),
        ("api_key = 'sk-secret'", "name its environment variable in api_key_env, or its file in api_key_file"),
        ("base_url = 'http://user:sk-secret@llm.test'", "would be sent in place of the API key"),
        ("parameters = { api_base = 'x' }", "api_base cannot stand here; use base_url"),
        ("parameters = { messages = [] }", "messages cannot be set"),
    ],
)
def test_a_fault_of_an_llm_has_a_remedy_and_shows_no_key(home: Path, line: str, said: str) -> None:
    (home / "gateway.toml").write_text(LLM + line)
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    assert said in refused.value.message
    assert "sk-secret" not in repr(refused.value)


def test_llms_are_read_in_order_with_their_parameters(home: Path) -> None:
    (home / "gateway.toml").write_text(
        LLM + 'api_key_file = "~/key"\ninput_usd_per_mtok = 3\noutput_usd_per_mtok = 15.5\n[llms.parameters]\ntemperature = 0\n'
        '[[llms]]\nname = "b"\nmodel = "ollama/m"\napi_key_env = "B"\n'
    )
    first, second = load_settings().llms
    assert (first.name, first.api_key_file, first.output_usd_per_mtok) == ("a", home / "key", 15.5)
    assert (first.parameters, second.model) == ({"temperature": 0}, "ollama/m")
    assert secret_variables([first, second]) == {"B"}


@pytest.mark.parametrize("name", ["A2A_LLMS", "A2A_PEERS"])
def test_a_list_in_the_environment_that_is_not_json_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(ConfigurationError, match=name):
        load_settings()


def test_a_file_that_cannot_be_read_is_named(home: Path) -> None:
    (home / "gateway.toml").write_text("port = ")
    with pytest.raises(ConfigurationError, match=r"gateway\.toml"):
        load_settings()


def test_peers_in_the_environment_that_are_no_json_are_not_blamed_on_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A2A_PEERS", "build-box")
    with pytest.raises(ConfigurationError, match="A2A_PEERS"):
        load_settings()


def test_an_unknown_key_proves_nothing_before_a_gateway_may_forget_it() -> None:
    assert _KEYS_ARE_KEPT_S < LEAST_KEPT_S <= load_settings().idempotency_ttl_s


def test_every_setting_has_a_description() -> None:
    assert [name for name, item in Settings.model_fields.items() if not (item.description or "").endswith(".")] == []


def test_variables_that_look_like_settings_and_are_none_are_found() -> None:
    environ = dict.fromkeys(("A2A_MAX_DEPHT", "A2A_MAX_DEPTH", "a2a_port", "A2A_API_KEY", "A2A_BASE_URL", "PATH"), "1")
    unknown = unknown_variables(environ)
    assert list(unknown) == ["A2A_MAX_DEPHT"]
    assert "A2A_MAX_DEPTH?" in unknown["A2A_MAX_DEPHT"]


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("max_dept = 3", "max_depth"),
        ("max-depth = 3", "max_depth"),
        ('[[peers]]\nid = "box"\nbase_ulr = "http://box/v1"', "base_url"),
        ('[[peers]]\nid = "box"\nbase_url = "http://box/v1"\n[peers.accepts]\nmax_dept = 1', "max_depth"),
    ],
)
def test_a_misspelled_setting_is_answered_with_the_one_meant(home: Path, line: str, meant: str) -> None:
    (home / "gateway.toml").write_text(line)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert caught.value.message.endswith(f"did you mean {meant}?).")


def test_a_setting_like_no_other_gets_no_suggestion(home: Path) -> None:
    (home / "gateway.toml").write_text("zzz = 1")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert "mean" not in caught.value.message


def test_the_fault_of_a_variable_names_the_variable(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A2A_BUDGET_USD", "lots")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert "A2A_BUDGET_USD: " in caught.value.message
    assert caught.value.param == "budget_usd"


@pytest.mark.anyio
async def test_the_store_is_in_the_data_directory_whatever_characters_its_path_has(home: Path) -> None:
    settings = load_settings(data_dir=home / "50%20off? #1")
    async with open_store(store_url(settings), SystemClock()):
        assert (settings.data_dir / "gateway.db").is_file()
