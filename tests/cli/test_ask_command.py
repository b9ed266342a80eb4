"""`a2a-gateway ask` and `runs`, against a real gateway on a scripted LLM."""

import json
import re
import signal
import uuid
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine, Served
from tests.error_texts.texts import pattern_of
from tests.support.proxy import PROXY_VARIABLES, RecordingProxy

AGENT = "openhands_default"


def script_task(*steps: dict[str, object], text: str = "Do it.") -> str:
    """Return a task with a script for the LLM."""
    return f"{text} [[llm {json.dumps({'steps': steps})}]]"


def test_a_pipe_gets_the_answer_alone_and_standard_error_the_run_and_its_tree(served: Served) -> None:
    result = served.run("ask", AGENT, script_task({"content": "All is well."}))
    assert (result.exit_code, result.stdout) == (0, "All is well.\n")
    begun, header, run, _ = result.stderr.splitlines()
    assert begun == f"Run {served.run_json('runs', 'list', '--limit', '1')[0]['id'][:8]} of {AGENT}"
    assert header.split() == ["run", "depth", "state", "time", "tokens", "cost", "id"]
    assert run.split()[:3] == [AGENT, "0", "finished"]


def test_a_quiet_answer_comes_with_nothing_else(served: Served) -> None:
    result = served.run("ask", AGENT, script_task({"content": "All is well."}), "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "All is well.\n", "")


def test_the_whole_outcome_is_one_json_object_for_scripts(served: Served) -> None:
    outcome = served.run_json(
        "ask", AGENT, script_task({"content": "yes", "usage": {"prompt_tokens": 12, "completion_tokens": 3}})
    )
    run = outcome["run"]
    assert [outcome[name] for name in ("answer", "finish_reason", "state", "error")] == ["yes", "stop", "finished", None]
    assert (outcome["run_id"], outcome["conversation_id"]) == (run["id"], run["conversation_id"])
    assert (outcome["cost_usd"], outcome["cost_complete"]) == (run["cost"]["tree"], run["cost"]["complete"])
    assert outcome["usage"]["delegation"]["run_id"] == run["id"]
    assert (run["agent"], run["depth"], run["state"], run["children"]) == (AGENT, 0, "finished", [])
    assert (run["tokens"]["prompt"], run["tokens"]["completion"]) == (12, 3)
    assert served.run_json("runs", "tree", run["id"]) == run
    assert run["id"] in [listed["id"] for listed in served.run_json("runs", "list")]


@pytest.mark.parametrize("no_proxy", ["", "[::1],fe80::/10"])
def test_the_key_is_not_sent_through_a_proxy_to_this_machine(served: Served, no_proxy: str) -> None:
    with RecordingProxy.in_thread() as proxy:
        environ = {**dict.fromkeys(PROXY_VARIABLES), "HTTP_PROXY": proxy.url, "NO_PROXY": no_proxy}
        assert served.run("ask", AGENT, script_task({"content": "yes"}), **environ).exit_code == 0
        assert served.run("runs", "list", **environ).exit_code == 0
        assert proxy.heads == []
        assert served.run("runs", "list", "--url", "http://elsewhere.test/v1", **environ).exit_code == 4  # the proxy's 403
        assert proxy.targets == ["GET http://elsewhere.test/v1/runs?limit=20"]


def test_a_gateway_by_its_public_name_is_asked_without_the_proxy(served: Served) -> None:
    with RecordingProxy.in_thread() as proxy:
        environ = {**dict.fromkeys(PROXY_VARIABLES), "ALL_PROXY": proxy.url, "A2A_PUBLIC_URL": "http://gateway.invalid:1"}
        for url in (None, "http://gateway.invalid:1/v1"):
            result = served.run("runs", "list", **{**environ, "A2A_BASE_URL": url})
            assert (result.exit_code, "No gateway answers at" in result.stderr) == (1, True)
    assert proxy.heads == []


@pytest.mark.parametrize("task", [["-"], []], ids=["a hyphen", "no task"])
def test_a_task_can_come_from_standard_input(served: Served, task: list[str]) -> None:
    result = served.run("ask", AGENT, *task, "--json", stdin=script_task({"content": "read"}))
    assert json.loads(result.stdout)["answer"] == "read"


@pytest.mark.parametrize("task", [[], [" "]])
def test_an_empty_task_is_wrong_usage(served: Served, task: list[str]) -> None:
    result = served.run("ask", AGENT, *task)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.search(pattern_of("exit 2: an empty task"), result.stderr)


def test_files_are_added_to_the_task_under_their_names(served: Served, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text('A text with </file> in it, and "quotes".\n')
    (tmp_path / "more.txt").write_text("More.")
    files = ["--file", str(tmp_path / "notes.txt"), "-f", str(tmp_path / "more.txt")]
    assert served.run("ask", AGENT, script_task({"content": "read"}), *files).exit_code == 0
    content = json.dumps(served.llm.traffic.requests[-1].body["messages"][-1]["content"])
    assert json.dumps('<file_ name="notes.txt">\nA text with </file> in it, and "quotes".\n</file_>')[1:-1] in content
    assert json.dumps('<file name="more.txt">\nMore.\n</file>')[1:-1] in content


def test_an_image_is_sent_as_an_image(served: Served, tmp_path: Path) -> None:
    (tmp_path / "photo.PNG").write_bytes(b"\x89PNG")
    result = served.run("ask", AGENT, "What is it?", "--file", str(tmp_path / "photo.PNG"), "--json")
    assert json.loads(result.stdout)["error"]["code"] == "unsupported_parameter"  # the LLM of the tests takes no images


@pytest.mark.parametrize(
    ("name", "data", "case"),
    [
        ("missing.txt", None, "exit 2: a file for a task that is missing"),
        ("program", b"\x7fELF\0", "exit 2: a file for a task that is not text"),
        ("large.txt", b"x" * 1_000_001, "exit 2: a file for a task that is too large"),
    ],
)
def test_a_file_that_cannot_be_added_is_wrong_usage(
    served: Served, tmp_path: Path, name: str, data: bytes | None, case: str
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    result = served.run("ask", AGENT, "Read it.", "--file", str(tmp_path / name))
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.search(pattern_of(case), result.stderr)


def test_a_conversation_can_be_gone_on_with(served: Served) -> None:
    first = served.run_json("ask", AGENT, script_task({"content": "one"}))
    conversation = first["run"]["conversation_id"]
    assert served.run("ask", AGENT, "x", "--conversation", str(uuid.uuid4())).exit_code == 4  # and so not the last one
    for named in (conversation, "last"):
        later = served.run_json("ask", AGENT, script_task({"content": "two"}), "--conversation", named)
        assert later["conversation_id"] == conversation
        assert "one" in json.dumps(served.llm.traffic.requests[-1].body["messages"])


def test_an_agent_works_in_the_directory_that_the_user_names(served: Served, tmp_path: Path) -> None:
    key = served.run_json("keys", "create", "at work", "--workspaces", str(tmp_path))["key"]
    project = tmp_path / "my projéct"
    project.mkdir()
    write: dict[str, object] = {"tool_calls": [{"name": "terminal", "arguments": {"command": "pwd > here"}}]}
    answer = served.run_json("ask", AGENT, script_task(write, {"content": "ok"}), "--workspace", str(project), A2A_API_KEY=key)
    assert answer["state"] == "finished"
    assert (project / "here").read_text() == f"{project}\n"


def test_no_directory_is_named_to_a_gateway_that_may_be_elsewhere(served: Served, tmp_path: Path) -> None:
    result = served.run("ask", AGENT, "x", "--workspace", str(tmp_path), A2A_BASE_URL="http://192.0.2.1:8420/v1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.search(pattern_of("exit 2: a workspace for a gateway elsewhere"), result.stderr)


def test_a_workspace_that_is_no_directory_is_wrong_usage(served: Served, tmp_path: Path) -> None:
    result = served.run("ask", AGENT, "x", "--workspace", str(tmp_path / "missing"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.search(pattern_of("exit 2: a workspace that is missing"), result.stderr)


def test_without_a_last_conversation_with_the_agent_nothing_is_begun(served: Served) -> None:
    result = served.run("ask", "openhands_other", "Go on.", "--conversation", "last")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--conversation" in result.stderr


def test_an_answer_cut_short_by_a_limit_has_an_exit_code_of_its_own(served: Served) -> None:
    result = served.run("ask", AGENT, script_task({"content": "This is only", "finish_reason": "length"}))
    assert result.stdout.startswith("This is only")
    assert result.exit_code == 3


@pytest.mark.parametrize(
    ("model", "step", "exit_code", "printed"),
    [
        ("openhands_nobody", {"content": "x"}, 4, "openhands_nobody"),
        (AGENT, {"status": 401, "error": "bad key", "code": "invalid_api_key"}, 1, "LLM_API_KEY"),
        (AGENT, {"status": 500, "error": "down"}, 1, "a2a-gateway: "),
    ],
)
def test_a_failure_is_told_without_a_traceback(
    served: Served, model: str, step: dict[str, object], exit_code: int, printed: str
) -> None:
    result = served.run("ask", model, script_task(step))
    assert result.exit_code == exit_code
    assert printed in result.stderr
    assert "Traceback" not in result.output
    assert (result.stderr.startswith("Run "), "depth" in result.stderr) == (model == AGENT, model == AGENT)  # and its tree


def test_a_failure_is_one_json_object_with_the_run_and_its_cost(served: Served) -> None:
    result = served.run("ask", AGENT, script_task({"status": 401, "error": "no", "code": "invalid_api_key"}), "--json")
    failed = json.loads(result.stdout)
    assert (result.exit_code, failed["error"]["code"], failed["state"]) == (1, "llm_auth_failed", "failed")
    assert failed["run"]["id"] == failed["run_id"]
    assert failed["cost_usd"] == "0.000000"
    assert "LLM_API_KEY" in failed["error"]["remedy"]


@pytest.mark.parametrize(
    ("arguments", "environ", "exit_code", "code", "param"),
    [
        (["openhands_nobody", "x"], {}, 4, "model_not_found", "model"),
        ([AGENT, "x"], {"A2A_API_KEY": None}, 1, "invalid_api_key", None),
        ([AGENT, "x"], {"A2A_BASE_URL": "http://127.0.0.1:9/v1"}, 1, "unreachable", None),
        ([AGENT, "x", "--conversation", "nonsense"], {}, 2, "invalid_request_error", "--conversation"),
        ([AGENT, "x", "--workspace", "/"], {}, 4, "workspace_not_allowed", "--workspace"),
        ([AGENT, "x", "--timeout", "0"], {}, 2, "wrong_usage", None),
        ([AGENT, "x", "--budget-usd", "much"], {}, 2, "wrong_usage", "--budget-usd"),
    ],
)
def test_what_prevents_a_run_is_one_json_object(
    served: Served, arguments: list[str], environ: dict[str, str | None], exit_code: int, code: str, param: str | None
) -> None:
    result = served.run("ask", *arguments, "--json", **environ)
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, error["code"], error["param"]) == (exit_code, code, param)
    assert error["message"]


def test_a_stream_that_breaks_off_shows_what_had_come_and_fails(served: Served) -> None:
    result = served.run("ask", AGENT, script_task({"content": "one two three four five six", "drop_after": 2}))
    assert result.stdout.startswith("one")
    assert result.exit_code == 1


def test_a_refusal_has_an_exit_code_of_its_own(served: Served) -> None:
    result = served.run("ask", AGENT, "hello", A2A_API_KEY="a2a_000000000000_" + "x" * 43)
    assert result.exit_code == 4
    assert "keys create" in result.stderr


def test_without_a_key_it_says_how_to_make_one(command_line: CommandLine) -> None:
    result = command_line.run("ask", AGENT, "hello")
    assert result.exit_code == 1
    assert re.search(pattern_of("exit 1: no key"), result.stderr)


def test_a_key_may_end_with_a_line(served: Served) -> None:
    assert served.run("runs", "list", A2A_API_KEY=f"{served.environ['A2A_API_KEY']}\r\n").exit_code == 0


def test_without_a_gateway_it_says_how_to_start_one(command_line: CommandLine, unused_port: int) -> None:
    result = command_line.run("ask", AGENT, "hello", "--url", f"http://127.0.0.1:{unused_port}/v1", "--key", "k")
    assert result.exit_code == 1
    assert "a2a-gateway serve" in result.stderr


def test_ctrl_c_cancels_the_run_and_reports_what_it_cost(served: Served) -> None:
    task = script_task({"content": "Well, then.", "gate": {"name": "ctrl-c", "after": 2}})
    with served.start("ask", AGENT, task, "--json") as process:
        # Not `in_flight`, which still counts the call of the test before until its connection is closed.
        served.llm.block_until(lambda traffic: traffic.waiting_at("ctrl-c") == 1)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in stderr
    cancelled = json.loads(stdout)
    assert (cancelled["error"]["code"], cancelled["state"]) == ("run_cancelled", "cancelled")
    assert "Well, ".startswith(cancelled["answer"])
    assert cancelled["run"]["id"] == cancelled["run_id"]
    assert cancelled["cost_usd"] == "0.000000"
    served.llm.block_until(lambda traffic: traffic.waiting_at("ctrl-c") == 0)
    assert served.run_json("runs", "list")[0]["state"] == "cancelled"


def test_a_reader_who_goes_away_cancels_the_run(served: Served) -> None:
    with served.start("ask", AGENT, script_task({"content": "word " * 10_000, "token_ms": 1})) as process:
        assert process.stdout is not None
        process.stdout.read(4)
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read().startswith("Run ")
    assert process.returncode == 1
    assert served.run_json("runs", "list")[0]["state"] == "cancelled"


def test_a_run_can_be_cancelled_by_its_id(served: Served) -> None:
    with served.start("ask", AGENT, script_task({"gate": "cancelled-by-its-id"})) as process:
        served.llm.block_until(lambda traffic: traffic.waiting_at("cancelled-by-its-id") == 1)
        run = served.run_json("runs", "list", "--limit", "1")[0]
        assert run["state"] == "running"
        assert served.run("runs", "cancel", run["id"]).exit_code == 0
        _, stderr = process.communicate()
    assert process.returncode == 1
    assert "cancelled" in stderr.lower()
    assert served.run_json("runs", "tree", run["id"])["state"] == "cancelled"


@pytest.mark.parametrize("key", ["a2a_secret\na2a_secret", "a2a_schlüssel"])
def test_a_key_that_is_none_is_not_quoted(served: Served, key: str) -> None:
    result = served.run("runs", "list", A2A_API_KEY=key)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.search(pattern_of("exit 2: a key that no header can hold"), result.stderr)
    assert "secret" not in result.stderr


def test_a_url_without_its_end_is_told(served: Served) -> None:
    result = served.run("runs", "list", A2A_BASE_URL=served.gateway.base_url.removesuffix("/v1") + "/api")
    assert result.exit_code == 4
    assert re.search(pattern_of("exit 4: a URL without its end"), result.stderr)


@pytest.mark.parametrize("seconds", ["0", "-1"])
def test_no_time_is_wrong_usage(served: Served, seconds: str) -> None:
    result = served.run("ask", AGENT, "Do it.", "--timeout", seconds)
    assert result.exit_code == 2
    assert "--timeout" in result.stderr


@pytest.mark.parametrize("run_id", ["nothing", "../models", "a/b", "?limit=1"])
def test_an_id_that_names_no_run_is_refused_whatever_it_looks_like(served: Served, run_id: str) -> None:
    result = served.run("runs", "tree", run_id)
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr.startswith("a2a-gateway: ")
