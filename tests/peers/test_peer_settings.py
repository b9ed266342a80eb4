"""Peers in the settings: what each needs, and where its key is kept."""

import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from a2a_gateway.errors import ConfigurationError
from a2a_gateway.peer_settings import PeerPolicy, PeerSettings
from a2a_gateway.settings import load_settings


def test_peers_are_read_from_the_file_of_settings(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(
        'gateway_id = "a"\n[[peers]]\nid = "b"\nbase_url = "http://b.example/v1"\napi_key_env = "B_KEY"\nbudget_usd = "0.5"\n'
    )
    (peer,) = load_settings(tmp_path / "gateway.toml").peers
    assert (peer.id, peer.budget_micro_usd, peer.read_api_key({"B_KEY": "secret"})) == ("b", 500_000, "secret")
    with pytest.raises(ConfigurationError, match="The peer b has no key"):
        peer.read_api_key({})


def test_the_peers_of_the_readme_can_be_used(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (example,) = re.findall(r"```toml\n(gateway_id.*?)```", readme, re.DOTALL)
    (tmp_path / "gateway.toml").write_text(example)
    settings = load_settings(tmp_path / "gateway.toml")
    assert [(peer.id, peer.is_trusted, peer.opaque, peer.budget_micro_usd) for peer in settings.peers] == [
        ("build-box", True, False, 2_000_000),
        ("elsewhere", False, False, None),
        ("openrouter", False, True, None),
        ("vllm", False, True, None),
    ]
    vllm = settings.peers[-1]
    assert [str(vllm.price_of(model)) for model in ("small", "large")] == [
        "input_usd_per_mtok=Decimal('0.1') output_usd_per_mtok=Decimal('0.4')",
        "input_usd_per_mtok=Decimal('0.5') output_usd_per_mtok=Decimal('1.5')",
    ]
    assert (settings.peers[2].reports_cost, settings.peers[2].price_of("m")) == (True, None)
    assert settings.peers[0].accepts == PeerPolicy(
        agents=frozenset({"openhands_reviewer"}), budget_usd="0.50", max_concurrent_runs=4
    )


def test_a_shared_secret_that_could_be_guessed_is_refused(tmp_path: Path) -> None:
    peer = PeerSettings(id="b", base_url="x", shared_secret_env="PAIR")
    assert peer.read_shared_secret({"PAIR": "s" * 32}) == "s" * 32
    with pytest.raises(ConfigurationError, match="has 5 characters"):
        peer.read_shared_secret({"PAIR": "short"})
    with pytest.raises(ConfigurationError, match="PAIR is not set"):
        peer.read_shared_secret({})


def test_a_key_comes_from_a_file_and_is_in_no_repr(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-a-file\n")
    assert PeerSettings(id="b", base_url="x", api_key_file=tmp_path / "key").read_api_key({}) == "from-a-file"
    assert "hunter2" not in repr(PeerSettings.model_validate({"id": "b", "base_url": "x", "api_key": "hunter2"}))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        PeerSettings(id="b", base_url="x", api_key_file=tmp_path / "none").read_api_key({})
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="it is not text"):
        PeerSettings(id="b", base_url="x", api_key_file=tmp_path / "binary").read_api_key({})


def test_a_key_loses_its_line_end_and_one_that_no_header_can_hold_is_not_shown() -> None:
    peer = PeerSettings(id="b", base_url="x", api_key_env="KEY")
    assert peer.read_api_key({"KEY": "from-windows\r\n"}) == "from-windows"
    for key in ("hunter2\nhunter2", "hünter2", "\0hunter2"):
        with pytest.raises(ConfigurationError, match="characters that an API key cannot have") as refused:
            peer.read_api_key({"KEY": key})
        assert "nter2" not in refused.value.message
    with pytest.raises(ConfigurationError, match="characters that an API key cannot have"):
        PeerSettings(id="b", base_url="x", api_key=SecretStr("a\nhunter2")).read_api_key({})


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("A2A_PEERS", '[{"id": "x", "api_key": "hunter2"', "A2A_PEERS cannot be read"),
        ("A2A_PEERS", '[{"id": "x", "api_key": {"is": "hunter2"}}]', r"peers\.0\.api_key"),
        ("A2A_TIMEOUT_S", "inf", "timeout_s"),
        ("A2A_TIMEOUT_S", "1e10", "timeout_s"),
        ("A2A_HEARTBEAT_S", "nan", "heartbeat_s"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named_and_no_secret_shown(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=said) as refused:
        load_settings()
    assert "hunter2" not in refused.value.message


PLAIN = 'gateway_id = "a"\n[[peers]]\nid = "b"\nbase_url = "x"\napi_key_env = "K"\nopaque = true'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[peers]]\nid = "b"\nbase_url = "x"', "gateway_id"),
        ('gateway_id = "a"\n[[peers]]\nid = "b"\nbase_url = "x"\n[[peers]]\nid = "b"\nbase_url = "y"', "same id"),
        ('gateway_id = "a"\n[[peers]]\nid = "b/c"\nbase_url = "x"', "peers.0.id"),
        ('gateway_id = "a"\n[[peers]]\nid = "a"\nbase_url = "x"', "this gateway's own"),
        ('gateway_id = "a"\n[[peers]]\nid = "openhands_b"\nbase_url = "x"', "begin with openhands_"),
        ('gateway_id = "a"\n[[peers]]\nid = "b"\nbase_url = "x"\nbudget_usd = "much"', "peers.0.budget_usd"),
        ('gateway_id = "a"\n[[peers]]\nid = "b"\nbase_url = "x"\ntypo = 1', "peers.0.typo"),
        ('gateway_id = "a"\n[[peers]]\nid = "b"', "neither a base_url"),
        ('gateway_id = "a"\n[[peers]]\nid = "b"\nbase_url = "x"\npublic_key = "short"', "peers.0.public_key"),
        ('gateway_id = "a"\n[[peers]]\nid = "b"\nbase_url = "x"\nopaque = true', "plain endpoint"),
        (f"{PLAIN}\ninput_usd_per_mtok = 1", "together or not at all"),
        (f"{PLAIN}\ninput_usd_per_mtok = -1\noutput_usd_per_mtok = 1", "peers.0.input_usd_per_mtok"),
        (f"{PLAIN}\ninput_usd_per_mtok = nan\noutput_usd_per_mtok = 1", "peers.0.input_usd_per_mtok"),
        (f"{PLAIN}\nmax_output_tokens = 0", "peers.0.max_output_tokens"),
        (f"{PLAIN}\nprices = {{m = {{input_usd_per_mtok = 1}}}}", "peers.0.prices.m.output_usd_per_mtok"),
        ('gateway_id = "a"\n[[peers]]\nid = "b"\nbase_url = "x"\nreports_cost = true', "only for a plain endpoint"),
        ('gateway_id = "a"\n[[peers]]\nid = "b"\nbase_url = "x"\naccepts = {budget_usd = "lots"}', "budget_usd"),
        (
            'gateway_id = "a"\n'
            + "".join(f'[[peers]]\nid = "{name}"\ngateway_id = "c"\njwks_url = "x"\n' for name in ("b", "d")),
            "same gateway_id",
        ),
    ],
)
def test_peers_that_cannot_work_are_refused_at_the_start(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "gateway.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        load_settings(tmp_path / "gateway.toml")
