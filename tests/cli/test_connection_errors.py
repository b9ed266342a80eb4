"""What the command line reports of a server that it cannot reach or trust: certificates and URLs."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from delegate_tool import delegate
from tests.cli.conftest import CommandLine
from tests.support.tls import TlsServer, tls_server

FAULTS: Mapping[str, tuple[dict[str, Any], str]] = {
    "expired": ({"days": (-2, -1)}, "has expired"),
    "not valid yet": ({"days": (1, 2)}, "not yet valid"),
    "for another address": ({"address": "127.0.0.9"}, "not valid for '127.0.0.1'"),
}


def runs_of(command_line: CommandLine, url: str, **environ: str) -> tuple[int, str]:
    result = command_line.run("runs", "list", "--json", "--url", url, A2A_API_KEY="a2a_x", **environ)
    return result.exit_code, result.stderr


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TlsServer]:
    with tls_server(tmp_path) as server:
        yield server


def test_a_certificate_of_an_unknown_issuer_is_named_and_can_be_trusted(command_line: CommandLine, server: TlsServer) -> None:
    exit_code, stderr = runs_of(command_line, f"{server.url}/v1")
    assert exit_code == 1
    assert "its certificate was refused (self-signed certificate): set SSL_CERT_FILE" in stderr
    assert "No gateway answers" not in stderr
    assert runs_of(command_line, f"{server.url}/v1", SSL_CERT_FILE=str(server.certificate)) == (0, "")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_trusted_certificate_is_named(command_line: CommandLine, tmp_path: Path, fault: str) -> None:
    made, words = FAULTS[fault]
    with tls_server(tmp_path, **made) as server:
        exit_code, stderr = runs_of(command_line, f"{server.url}/v1", SSL_CERT_FILE=str(server.certificate))
    assert exit_code == 1
    assert words in stderr


def test_certificates_that_cannot_be_read_are_named_by_their_variable(command_line: CommandLine, tmp_path: Path) -> None:
    exit_code, stderr = runs_of(command_line, "https://127.0.0.1:9/v1", SSL_CERT_FILE=str(tmp_path / "none"))
    assert exit_code == 1
    assert "SSL_CERT_FILE" in stderr


def test_a_delegation_and_a_new_peer_name_the_certificate_too(command_line: CommandLine, server: TlsServer) -> None:
    result = delegate("openhands_a", "t", base_url=f"{server.url}/v1", api_key="a2a_x", timeout_s=20)
    assert "SSL_CERT_FILE" in (result.error_message or "")
    added = command_line.run("peer", "add", server.url, A2A_GATEWAY_ID="laptop")
    assert added.exit_code == 1
    assert "SSL_CERT_FILE" in added.stderr


def test_a_server_without_tls_is_named_as_such(served: CommandLine) -> None:
    url = str(served.environ["A2A_BASE_URL"]).replace("http://", "https://")
    exit_code, stderr = runs_of(served, url)
    assert exit_code == 1
    assert "write http://" in stderr


def test_a_url_without_its_path_is_a_gateways(served: CommandLine) -> None:
    root = str(served.environ["A2A_BASE_URL"]).removesuffix("/v1")
    for url in (root, f"{root}/", f" {root}/v1/ "):
        assert served.run("runs", "list", "--url", url).exit_code == 0


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:8420", "write http://localhost:8420"),
        ("htp://x/v1", "http:// or https://"),
        ("http://u:hunter2@x/v1", "in place of the API key"),
    ],
)
def test_a_url_that_cannot_be_used_is_an_error_of_usage(command_line: CommandLine, url: str, words: str) -> None:
    for result in (
        command_line.run("runs", "list", "--url", url, A2A_API_KEY="a2a_x"),
        command_line.run("peer", "add", url, A2A_GATEWAY_ID="laptop"),
    ):
        assert result.exit_code == 2
        assert words in result.stderr
        assert "hunter2" not in result.stderr
