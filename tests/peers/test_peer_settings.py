"""Peers in the settings: what each needs, and where its key is kept."""

import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from a2a_gateway.errors import ConfigurationError
from a2a_gateway.peer_settings import PeerPolicy, PeerSettings
from a2a_gateway.settings import load_settings
from tests.error_texts.texts import pattern_of


def test_peers_are_read_from_the_file_of_settings(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(
        'gateway_id = "a"\n[[peers]]\nid = "b"\nbase_url = "http://b.example/v1"\napi_key_env = "B_KEY"\nbudget_usd = "0.5"\n'
    )
    (peer,) = load_settings(tmp_path / "gateway.toml").peers
    assert (peer.id, peer.budget_micro_usd, peer.read_api_key({"B_KEY": "secret"})) == ("b", 500_000, "secret")
    with pytest.raises(ConfigurationError, match="B_KEY is not set"):
        peer.read_api_key({})


def test_the_peers_of_the_documents_can_be_used(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "chaining.md").read_text()
    (example,) = re.findall(r"```toml\n(gateway_id.*?)```", page, re.DOTALL)
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
    peer = PeerSettings(id="b", base_url="http://x", shared_secret_env="PAIR")
    assert peer.read_shared_secret({"PAIR": "s" * 32}) == "s" * 32
    with pytest.raises(ConfigurationError, match=pattern_of("configuration_error: a shared secret that could be guessed")):
        peer.read_shared_secret({"PAIR": "short"})
    with pytest.raises(ConfigurationError, match=pattern_of("configuration_error: a shared secret that is not set")):
        peer.read_shared_secret({})


def test_a_key_comes_from_a_file_and_is_in_no_repr(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-a-file\n")
    assert PeerSettings(id="b", base_url="http://x", api_key_file=tmp_path / "key").read_api_key({}) == "from-a-file"
    assert "hunter2" not in repr(PeerSettings.model_validate({"id": "b", "base_url": "http://x", "api_key": "hunter2"}))
    with pytest.raises(ConfigurationError, match=pattern_of("configuration_error: a peer's key file that is missing")):
        PeerSettings(id="b", base_url="http://x", api_key_file=tmp_path / "none").read_api_key({})
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=pattern_of("configuration_error: a peer's key file that is no text")):
        PeerSettings(id="b", base_url="http://x", api_key_file=tmp_path / "binary").read_api_key({})


def test_a_key_loses_its_line_end_and_one_that_no_header_can_hold_is_not_shown() -> None:
    peer = PeerSettings(id="b", base_url="http://x", api_key_env="KEY")
    assert peer.read_api_key({"KEY": "from-windows\r\n"}) == "from-windows"
    bad_characters = pattern_of("configuration_error: a peer's key that no header can hold")
    for key in ("hunter2\nhunter2", "hünter2", "\0hunter2"):
        with pytest.raises(ConfigurationError, match=bad_characters) as refused:
            peer.read_api_key({"KEY": key})
        assert "nter2" not in refused.value.message
    with pytest.raises(ConfigurationError, match=bad_characters) as refused:
        PeerSettings(id="b", base_url="http://x", api_key=SecretStr("a\nhunter2")).read_api_key({})
    assert "nter2" not in refused.value.message


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("A2A_PEERS", '[{"id": "x", "api_key": "hunter2"', "A2A_PEERS"),
        ("A2A_PEERS", '[{"id": "x", "api_key": {"is": "hunter2"}}]', r"peers\.0\.api_key"),
        ("A2A_TIMEOUT_S", "inf", "A2A_TIMEOUT_S"),
        ("A2A_TIMEOUT_S", "1e10", "A2A_TIMEOUT_S"),
        ("A2A_HEARTBEAT_S", "nan", "A2A_HEARTBEAT_S"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named_and_no_secret_shown(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, named: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=named) as refused:
        load_settings()
    assert "hunter2" not in refused.value.message


PLAIN = 'gateway_id = "a"\n[[peers]]\nid = "b"\nbase_url = "http://x"\napi_key_env = "K"\nopaque = true'


@pytest.mark.parametrize(
    ("text", "setting", "situation"),
    [
        ('[[peers]]\nid = "b"\nbase_url = "http://x"', None, "peers without a gateway_id"),
        (
            'gateway_id = "a"\n[[peers]]\nid = "b"\nbase_url = "http://x"\n[[peers]]\nid = "b"\nbase_url = "http://y"',
            None,
            "two peers of one id",
        ),
        ('gateway_id = "a"\n[[peers]]\nid = "b/c"\nbase_url = "http://x"', "peers.0.id", None),
        ('gateway_id = "a"\n[[peers]]\nid = "a"\nbase_url = "http://x"', None, "a peer with the gateway's own id"),
        (
            'gateway_id = "a"\n[[peers]]\nid = "openhands_b"\nbase_url = "http://x"',
            "peers.0.id",
            "a peer's id that begins like a profile's",
        ),
        ('gateway_id = "a"\n[[peers]]\nid = "b"\nbase_url = "http://x"\nbudget_usd = "much"', "peers.0.budget_usd", None),
        ('gateway_id = "a"\n[[peers]]\nid = "b"\nbase_url = "http://x"\ntypo = 1', "peers.0.typo", None),
        ('gateway_id = "a"\n[[peers]]\nid = "b"', "peers.0", "a peer that can neither be asked nor ask"),
        ('gateway_id = "a"\n[[peers]]\nid = "b"\nbase_url = "http://x"\npublic_key = "short"', "peers.0.public_key", None),
        (
            'gateway_id = "a"\n[[peers]]\nid = "b"\nbase_url = "http://x"\nopaque = true',
            "peers.0",
            "a plain endpoint without a key",
        ),
        (f"{PLAIN}\ninput_usd_per_mtok = 1", "peers.0", "one price without the other"),
        (f"{PLAIN}\ninput_usd_per_mtok = -1\noutput_usd_per_mtok = 1", "peers.0.input_usd_per_mtok", None),
        (f"{PLAIN}\ninput_usd_per_mtok = nan\noutput_usd_per_mtok = 1", "peers.0.input_usd_per_mtok", None),
        (f"{PLAIN}\nmax_output_tokens = 0", "peers.0.max_output_tokens", None),
        (f"{PLAIN}\nprices = {{m = {{input_usd_per_mtok = 1}}}}", "peers.0.prices.m.output_usd_per_mtok", None),
        (
            'gateway_id = "a"\n[[peers]]\nid = "b"\nbase_url = "http://x"\nreports_cost = true',
            "peers.0",
            "reports_cost of a gateway",
        ),
        (
            'gateway_id = "a"\n[[peers]]\nid = "b"\nbase_url = "http://x"\naccepts = {budget_usd = "lots"}',
            "peers.0.accepts.budget_usd",
            None,
        ),
        (
            'gateway_id = "a"\n'
            + "".join(f'[[peers]]\nid = "{name}"\ngateway_id = "c"\njwks_url = "x"\n' for name in ("b", "d")),
            None,
            "two peers of one gateway_id",
        ),
    ],
)
def test_peers_that_cannot_work_are_refused_at_the_start(
    tmp_path: Path, text: str, setting: str | None, situation: str | None
) -> None:
    (tmp_path / "gateway.toml").write_text(text)
    pattern = pattern_of(f"configuration_error: {situation}") if situation else None
    with pytest.raises(ConfigurationError, match=pattern) as refused:
        load_settings(tmp_path / "gateway.toml")
    assert refused.value.param == setting
