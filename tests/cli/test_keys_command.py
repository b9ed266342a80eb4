"""`a2a-gateway keys`, beside a running gateway and without one."""

import re
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine, Served
from tests.error_texts.texts import pattern_of


def test_a_key_made_beside_a_running_gateway_works_until_it_is_revoked(served: Served) -> None:
    made = served.run_json("keys", "create", "visitor")
    assert served.run_json("runs", "list", A2A_API_KEY=made["key"]) == []

    assert served.run("keys", "revoke", "visitor").exit_code == 0
    refused = served.run("runs", "list", A2A_API_KEY=made["key"])
    assert refused.exit_code == 4
    assert re.search(pattern_of("invalid_api_key: revoked"), refused.stderr)


def test_the_secret_is_the_only_thing_that_create_writes_to_standard_output(command_line: CommandLine) -> None:
    made = command_line.run("keys", "create", "me")
    assert made.stdout.startswith("a2a_")
    assert len(made.stdout.split()) == 1


def test_a_list_shows_what_a_key_may_do_but_not_its_secret(command_line: CommandLine) -> None:
    asked = "--agents", "lead, openhands_coder", "--budget-usd", "2.50", "--budget-per-day-usd", "1", "--max-depth", "1"
    limits = "--max-concurrent-runs", "2", "--requests-per-minute", "30"
    made = command_line.run_json("keys", "create", "ci", *asked, *limits)
    (listed,) = command_line.run_json("keys", "list")
    assert listed == {
        "id": made["id"],
        "name": "ci",
        "agents": ["openhands_coder", "openhands_lead"],
        "budget_usd": "2.500000",
        "budget_per_day_usd": "1.000000",
        "budget_per_month_usd": None,
        "spent_usd": "0.000000",
        "max_depth": 1,
        "max_concurrent_runs": 2,
        "requests_per_minute": 30,
        "workspaces": [],
        "created_at": listed["created_at"],
        "last_used_at": None,
        "revoked_at": None,
    }
    table = command_line.run("keys", "list").stdout
    assert "openhands_coder, openhands_lead" in table
    assert made["key"] not in table


def test_a_letter_that_the_terminal_does_not_have_is_no_failure(command_line: CommandLine) -> None:
    command_line.run("keys", "create", "schlüssel")
    with command_line.start("keys", "list", PYTHONIOENCODING="ascii") as process:
        stdout, stderr = process.communicate()
    assert (process.returncode, stderr) == (0, "")
    assert "schl?ssel" in stdout


@pytest.mark.parametrize(
    ("arguments", "exit_code", "pattern"),
    [
        (["revoke", "missing"], 1, pattern_of("configuration_error: no live key of that name")),
        (["create", "x", "--budget-usd", "much"], 2, pattern_of("exit 2: a key's budget that is no amount")),
        (["create", "x", "--budget-per-month-usd", "much"], 2, "--budget-per-month-usd: "),
        (["create", "x", "--max-depth", "-1"], 2, "--max-depth"),
        (["create", "x", "--max-concurrent-runs", "0"], 2, "--max-concurrent-runs"),
        (["create", ""], 1, pattern_of("configuration_error: the key's name is a peer's")),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    command_line: CommandLine, arguments: list[str], exit_code: int, pattern: str
) -> None:
    result = command_line.run("keys", *arguments)
    assert result.exit_code == exit_code
    assert re.search(pattern, result.stderr)
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", [("keys", "list"), ("peer", "list"), ("spend",)])
def test_a_data_directory_that_cannot_be_made_is_told_in_a_line(
    command_line: CommandLine, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "file").touch()
    result = command_line.run(*command, A2A_DATA_DIR=str(tmp_path / "file" / "data"))
    assert result.exit_code == 1
    assert re.search(pattern_of("exit 1: a data directory that cannot be made"), result.stderr)
    assert str(tmp_path / "file" / "data") in result.stderr
    assert result.stdout == ""


def test_a_database_that_cannot_be_reached_is_told_with_the_reason_and_what_to_do(
    command_line: CommandLine, unused_port: int
) -> None:
    url = f"postgresql://ada:hunter2@127.0.0.1:{unused_port}/ledger"
    result = command_line.run("keys", "list", A2A_DATABASE_URL=url)
    assert result.exit_code == 1
    assert re.search(pattern_of("exit 1: a database that cannot be reached"), result.stderr)
    assert "hunter2" not in result.stderr


def test_a_key_is_revoked_by_the_beginning_of_its_id_and_reported_as_json(command_line: CommandLine) -> None:
    made = command_line.run_json("keys", "create", "ci")
    other = command_line.run_json("keys", "create", made["id"][:6])  # a name that looks like the beginning of an id wins
    assert command_line.run_json("keys", "revoke", made["id"][:6])["id"] == other["id"]
    revoked = command_line.run_json("keys", "revoke", made["id"][:8])
    assert (revoked["id"], revoked["name"]) == (made["id"], "ci")
    assert revoked["revoked_at"]
    for nothing in ("", "%", made["id"][:3]):
        assert command_line.run("keys", "revoke", nothing).exit_code == 1


def test_models_of_peers_keep_their_names_in_the_list_of_a_key(command_line: CommandLine) -> None:
    command_line.run_json("keys", "create", "ci", "--agents", "lead, openhands_coder, box/openhands_lead")
    (listed,) = command_line.run_json("keys", "list")
    assert listed["agents"] == ["box/openhands_lead", "openhands_coder", "openhands_lead"]


def test_a_name_is_taken_until_its_key_is_revoked(command_line: CommandLine) -> None:
    assert command_line.run("keys", "create", "me").exit_code == 0
    taken = command_line.run("keys", "create", "me")
    assert taken.exit_code == 1
    assert re.search(pattern_of("configuration_error: the key's name is taken"), taken.stderr)
    assert command_line.run("keys", "revoke", "me").exit_code == 0
    assert command_line.run("keys", "create", "me").exit_code == 0
