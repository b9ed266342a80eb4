"""What a gateway logs of its work: requests, ends of runs, profiles."""

import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from a2a_gateway.testing.script import Step
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.support.ask import delegation, user
from tests.support.gateway import GatewayUnderTest, scripted_gateway
from tests.support.pages import ROOT, codes_in, section_of, tables_of
from tests.support.until import block_until

LOG = section_of((ROOT / "docs" / "operations.md").read_text(), "Log")
DOCUMENTED = {name: codes_in(fields) for row in tables_of(LOG)[0] for name in codes_in(row[0]) for fields in [row[3]]}
PROFILES = {"lead": "---\nname: lead\ntools: [delegate]\n---\nLead.", "broken": "---\nname: broken\ntools: [no_such_tool]\n---\n"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayUnderTest, ScriptedLLM]]:
    with scripted_gateway(tmp_path_factory.mktemp("data"), PROFILES, gateway_id="here") as running:
        yield running


@pytest.fixture
def gateway(running: tuple[GatewayUnderTest, ScriptedLLM], caplog: pytest.LogCaptureFixture) -> GatewayUnderTest:
    caplog.set_level("DEBUG", "a2a_gateway")
    return running[0]


def requests(caplog: pytest.LogCaptureFixture, count: int) -> list[dict[str, Any]]:
    """Return the events of requests, once there are so many: a client may have its response before it is logged."""
    block_until(lambda: len(events(caplog, "request")) == count)
    return events(caplog, "request")


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, Any]]:
    return [record.msg for record in caplog.records if isinstance(record.msg, dict) and record.msg["event"] == name]


def test_a_request_and_the_ends_of_its_runs_are_a_line_each(gateway: GatewayUnderTest, caplog: pytest.LogCaptureFixture) -> None:
    child = delegation("self", "secret task", Step(content="secret answer"))
    steps = (Step(tool_calls=(child,)), Step(content="secret end"))
    with gateway.sync_client() as client:
        response = client.chat.completions.with_raw_response.create(
            model="openhands_lead", messages=[user("secret question", *steps)], extra_query={"token": "secret"}
        )
    inner, outer = requests(caplog, 2)
    below, above = events(caplog, "run_ended")

    key_id = gateway.key.split("_")[1]
    assert outer["request_id"] == response.headers["x-request-id"]
    assert (outer["method"], outer["path"], outer["status"]) == ("POST", "/v1/chat/completions", 200)
    assert (outer["key_id"], outer["key_name"], outer["client"]) == (key_id, "default", "127.0.0.1")
    assert outer["sent_bytes"] == len(response.content)
    assert outer["run_id"] == above["run_id"] == above["tree_id"] == inner["caller_run_id"]
    assert "client_left" not in outer
    assert (above["agent"], above["depth"], above["state"], above["code"]) == ("openhands_lead", 0, "finished", None)
    assert (above["turns"], above["key_id"], above["gateway"]) == (2, key_id, "here")
    assert above["prompt_tokens"] > 0
    assert above["tree_cost_usd"] == "0.000000"
    assert (below["parent_id"], below["depth"], below["run_id"]) == (above["run_id"], 1, inner["run_id"])
    assert "secret" not in caplog.text
    assert gateway.key not in caplog.text
    assert {"event", *DOCUMENTED["run_ended"]} == set(above)
    assert {"event", *DOCUMENTED["request"]} == {*inner, "client_left"}


def test_the_page_lists_events_that_the_code_logs() -> None:
    code = "".join(path.read_text() for path in (ROOT / "a2a_gateway").rglob("*.py"))
    assert [name for name in DOCUMENTED if f'"{name}"' not in code] == []


def test_a_run_that_fails_is_a_warning_with_its_code(gateway: GatewayUnderTest, caplog: pytest.LogCaptureFixture) -> None:
    with gateway.sync_client() as client, pytest.raises(Exception, match="llm_auth_failed"):
        client.chat.completions.create(
            model="openhands_lead",
            messages=[user("Go.", Step(status=401, error="secret"))],
            extra_headers={"X-A2A-Max-Turns": "1"},
        )
    (request,), (ended,) = requests(caplog, 1), events(caplog, "run_ended")
    assert request["status"] == 502
    assert (ended["state"], ended["code"]) == ("failed", "llm_auth_failed")
    assert [record.levelname for record in caplog.records if record.msg is ended] == ["WARNING"]
    assert "secret" not in caplog.text


def test_a_client_that_hangs_up_is_visible(
    running: tuple[GatewayUnderTest, ScriptedLLM], gateway: GatewayUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    llm = running[1]
    body = {"model": "openhands_lead", "messages": [user("Go.", Step(hang=True))]}
    headers = {"authorization": f"Bearer {gateway.key}"}
    with httpx.Client(base_url=gateway.base_url, headers=headers) as http, pytest.raises(httpx.ReadTimeout):
        http.post("/chat/completions", json=body, timeout=httpx.Timeout(5, read=0.5))
    llm.block_until(lambda traffic: traffic.in_flight == 0)
    (request,) = requests(caplog, 1)
    (ended,) = block_until(lambda: events(caplog, "run_ended"))
    assert (request["status"], request["client_left"], request["run_id"]) == (499, True, ended["run_id"])
    assert ended["state"] == "cancelled"


def test_probes_are_details_and_refusals_are_requests(gateway: GatewayUnderTest, caplog: pytest.LogCaptureFixture) -> None:
    root = gateway.base_url.removesuffix("/v1")
    for path in ("/health", "/ready", "/nowhere%0A?key=secret", "/v1/models", "/openapi.json"):
        httpx.get(root + path)
    host, port = httpx.URL(root).host, httpx.URL(root).port
    with socket.create_connection((host, port or 0)) as raw:
        raw.sendall(b"no request\r\n\r\n")
        raw.recv(1024)
    assert [(request["path"], request["status"]) for request in requests(caplog, 5)] == [
        ("/health", 200),
        ("/ready", 200),
        ("/nowhere\n", 404),
        ("/v1/models", 401),
        ("/openapi.json", 200),
    ]
    levels = [record.levelname for record in caplog.records if record.name == "a2a_gateway.server.request_log"]
    assert levels == ["DEBUG", "DEBUG", "INFO", "INFO", "INFO"]
    (refused,) = events(caplog, "request_refused")
    assert (refused["status"], refused["code"]) == (400, "invalid_request_error")


def test_a_reload_names_the_files_and_what_is_wrong_with_them(
    gateway: GatewayUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    profiles = gateway.data_dir / "profiles"
    (profiles / "lead.md").write_text(PROFILES["lead"] + " Well.")
    (profiles / "new.md").write_text("---\nname: new\ntools: [secret_tool\n---\n")
    (broken,) = block_until(lambda: events(caplog, "profile_broken"))
    reloads = events(caplog, "profiles_reloaded")
    assert (broken["path"], broken["line"]) == (str(profiles / "new.md"), 4)
    assert [path for reload in reloads for path in reload["changed"]] == [str(profiles / "lead.md")]
    assert [path for reload in reloads for path in reload["added"]] == [str(profiles / "new.md")]
    assert reloads[-1]["broken"] == [str(profiles / "broken.md"), str(profiles / "new.md")]


def test_a_start_names_version_address_and_kind_of_database(
    running: tuple[GatewayUnderTest, ScriptedLLM], caplog: pytest.LogCaptureFixture, tmp_path_factory: pytest.TempPathFactory
) -> None:
    caplog.set_level("INFO", "a2a_gateway")
    with scripted_gateway(tmp_path_factory.mktemp("other"), PROFILES) as (gateway, _):
        (starting,), (ready,), (broken,) = (
            events(caplog, name) for name in ("gateway_starting", "gateway_ready", "profile_broken")
        )
        assert (starting["url"], starting["database"], starting["sandbox"]) == (gateway.base_url, "sqlite", "none")
        assert "openhands_lead" in ready["models"]
        assert broken["path"].endswith("broken.md")
    assert [event["runs"] for event in events(caplog, "drain_began")] == [0]
