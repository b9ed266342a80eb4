"""The terminal tool as an agent has it: a real SDK conversation, real shells, a scripted LLM."""

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import anyio
import psutil
import pytest
from openhands.sdk.conversation import ConversationExecutionStatus
from openhands.tools.terminal import TerminalAction

from tests.support.until import until

pytestmark = pytest.mark.anyio


class AgentRun(Protocol):
    conversation: Any  # the SDK's decorators hide the types of its methods

    async def observations(self) -> list[str]: ...


type StartAgent = Callable[..., AbstractContextManager[AgentRun]]


async def observed(start_agent: StartAgent, *calls: object, **options: object) -> list[str]:
    with start_agent(*calls, **options) as run:
        return await run.observations()


def says(command: str, **arguments: object) -> tuple[str, dict[str, object]]:
    return "terminal", {"command": command, **arguments}


def first_lines(observations: list[str]) -> list[str]:
    return [text.splitlines()[0] for text in observations]


async def test_commands_share_a_shell_that_starts_in_the_workspace(start_agent: StartAgent, workspace: Path) -> None:
    seen = await observed(
        start_agent, says("pwd"), says("cd /; export COLOUR=blue"), says('echo "$PWD $COLOUR"'), says("(exit 7)"), says("echo $?")
    )
    assert first_lines(seen)[::2] == [str(workspace), "/ blue", "7"]
    assert "[Command finished with exit code 7]" in seen[3]


async def test_a_command_may_have_any_length_lines_and_characters(start_agent: StartAgent) -> None:
    seen = await observed(
        start_agent,
        says("cat <<'END' | od -c | head -1\n\ta\\;b\nEND"),
        says(f"echo {'x' * 50_000} | wc -c"),
        says("echo one\necho two"),
        says("if true; then"),
        says("echo still here"),
    )
    assert seen[0].splitlines()[0].split() == ["0000000", "\\t", "a", "\\", ";", "b", "\\n"]
    assert seen[1].startswith("50001\n")
    assert seen[2].startswith("one\ntwo\n")
    assert "syntax error" in seen[3]
    assert seen[4].startswith("still here\n")


async def test_the_gateways_secrets_are_not_in_the_agents_environment(
    tmp_path: Path, workspace: Path, start_agent: StartAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LLM_API_KEY", "OPENAI_API_KEY", "A2A_DATABASE_URL", "OH_SECRET_KEY", "MY_TOKEN"):
        monkeypatch.setenv(name, "sesame")
    (listing,) = await observed(start_agent, says("env; set"))
    assert "sesame" not in listing
    assert "VIRTUAL_ENV" not in listing
    names = {line.partition("=")[0] for line in (await observed(start_agent, says("env")))[0].splitlines() if "=" in line}
    of_the_machine = {"LC_ALL", "LC_CTYPE", "TZ", "USER", "LOGNAME", "LANG", "OLDPWD"}  # Python sets LC_CTYPE under LANG=C
    assert names - of_the_machine == {
        "AGENT_SHELL", "GIT_PAGER", "GIT_TERMINAL_PROMPT", "HOME", "PAGER", "PATH", "PWD", "SHELL", "SHLVL", "TERM",
        "TMPDIR", "_",
    }  # fmt: skip


async def test_a_reset_gives_the_same_kind_of_shell_in_the_workspace(
    start_agent: StartAgent, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_API_KEY", "sesame")
    seen = await observed(
        start_agent,
        says("cd /; LEFT=over; echo $MODE"),
        says('echo "$PWD ${LEFT-gone} ${LLM_API_KEY-none} $0 $MODE ${TMUX-pty}"', reset=True),
        says("", reset=True),
        says('echo "$PWD $MODE"'),
        params={"terminal": {"env": {"MODE": "it's on"}}},
    )
    shell = seen[1].splitlines()[2]
    assert seen[0].startswith("it's on\n")
    assert "Terminal session has been reset" in seen[1]
    assert shell.startswith(f"{workspace} gone none ")
    assert shell.endswith("bash it's on pty")
    assert seen[3].startswith(f"{workspace} it's on\n")


async def test_a_running_command_takes_input_and_refuses_other_commands(start_agent: StartAgent) -> None:
    seen = await observed(
        start_agent,
        says("read -r line; echo got $line; cat", timeout=0.2),
        says("echo no"),
        says("hello", is_input=True, timeout=0.2),
        says("C-d", is_input=True),
        says("more", is_input=True),
        says("sleep 60", timeout=0.1),
        says("C-c", is_input=True),
        says("echo free"),
    )
    assert "timed out after 0.2 seconds" in seen[0]
    assert "NOT executed" in seen[1]
    assert "got hello" in seen[2]
    assert "exit code 0" in seen[3]
    assert "No previous running command" in seen[4]
    assert "exit code 130" in seen[6]
    assert seen[7].startswith("free\n")


async def test_the_output_of_a_command_that_ended_meanwhile_is_shown_with_the_next(
    start_agent: StartAgent, workspace: Path
) -> None:
    with start_agent(says("true")) as run:
        terminal = run.conversation.agent.tools_map["terminal"].executor
        waiting = "until [ -e go ]; do sleep 0.02; done; echo late"
        texts = [terminal(TerminalAction(command=waiting, timeout=0.1))]
        (workspace / "go").touch()
        with anyio.fail_after(20):
            while texts[-1].exit_code != 0:
                texts.append(await asyncio.to_thread(terminal, TerminalAction(command="echo next")))
    shown = "".join(part.text for text in texts for part in text.to_llm_content)
    assert (shown.count("late\n"), texts[-1].text) == (1, "next")


async def test_a_command_without_output_comes_back_with_a_question(start_agent: StartAgent) -> None:
    seen = await observed(start_agent, says("echo before; sleep 60"), params={"terminal": {"no_change_timeout_seconds": 0.2}})
    assert seen[0].startswith("before\n")
    assert "no new output after 0.2 seconds" in seen[0]


async def test_a_shell_that_an_agent_ends_is_replaced(start_agent: StartAgent, workspace: Path) -> None:
    seen = await observed(start_agent, says("exit 3"), says("pwd"), says("kill -9 $$"), says("pwd"))
    assert "The shell itself ended" in seen[0]
    assert [seen[1].splitlines()[0], seen[3].splitlines()[0]] == [str(workspace)] * 2


async def test_a_workspace_that_is_gone_is_an_error_and_no_command_runs_elsewhere(
    start_agent: StartAgent, workspace: Path
) -> None:
    with start_agent(says("pwd; touch ran")) as run:
        workspace.rmdir()  # noqa: ASYNC240  # nobody else uses this loop
        (seen,) = await run.observations()
    assert "cannot enter the workspace" in seen


async def test_output_is_read_as_a_person_would_see_it(start_agent: StartAgent) -> None:
    seen = await observed(
        start_agent,
        says(r"printf '10%%\r50%%\r100%%\n\033[31mred\033[0m\n'"),
        says("head -c 300000 /dev/zero | tr '\\0' x; echo; echo end"),
    )
    assert seen[0].startswith("100%\nred\n")
    assert len(seen[1]) < 40_000
    assert "end" in seen[1]


@pytest.mark.parametrize("end", ["true", "exit", "kill -9 $$"])
async def test_no_process_or_file_of_a_run_outlives_it(start_agent: StartAgent, tmp_path: Path, end: str) -> None:
    sleeps = {name: f"{600 + n}.{os.getpid()}" for n, name in enumerate(("job", "nohup", "setsid", "daemon", "orphan"))}
    await observed(
        start_agent,
        says("touch ~/mark $TMPDIR/mark"),
        says(f"sleep {sleeps['job']} &"),
        says(f"nohup sleep {sleeps['nohup']} >/dev/null 2>&1 &"),
        says(f"setsid sleep {sleeps['setsid']} &"),
        says(f"(setsid sleep {sleeps['daemon']} </dev/null >/dev/null 2>&1 &)"),
        says(f"trap '' HUP TERM INT; (setsid sleep {sleeps['orphan']} &); {end}"),
    )
    left = {name for name, seconds in sleeps.items() if _running(["sleep", seconds])}
    assert left == set()
    assert list((tmp_path / "shells").rglob("mark")) == []


async def test_even_a_daemon_without_environment_ends_with_its_shell(start_agent: StartAgent) -> None:
    seconds = f"700.{os.getpid()}"
    with start_agent(says(f"(env -i setsid sleep {seconds} </dev/null >/dev/null 2>&1 &)")) as run:
        await run.observations()
        await until(lambda: _running(["sleep", seconds]))
    assert not _running(["sleep", seconds])


async def test_interrupting_a_run_stops_a_command_that_ignores_signals(start_agent: StartAgent) -> None:
    seconds = f"701.{os.getpid()}"
    with start_agent(says(f"trap '' INT TERM HUP; sh -c 'sleep {seconds}; sleep {seconds}'")) as run:
        running = asyncio.create_task(run.conversation.arun())
        await until(lambda: _running(["sleep", seconds]))
        run.conversation.interrupt()
        await running
        await until(lambda: not _running(["sleep", seconds]))
        assert run.conversation.state.execution_status == ConversationExecutionStatus.PAUSED
        assert not running.cancelled()


async def test_after_an_interrupt_a_command_starts_in_a_new_shell(start_agent: StartAgent, workspace: Path) -> None:
    with start_agent(says("true")) as run:
        terminal = run.conversation.agent.tools_map["terminal"].executor
        endless = asyncio.create_task(asyncio.to_thread(terminal, TerminalAction(command="touch on; while :; do :; done")))
        await until((workspace / "on").exists)
        terminal.interrupt()
        assert "interrupted" in (await endless).metadata.suffix
        assert (await asyncio.to_thread(terminal, TerminalAction(command="pwd"))).text == str(workspace)


async def test_closing_a_conversation_ends_the_thread_of_a_running_command(start_agent: StartAgent) -> None:
    seconds = f"702.{os.getpid()}"
    with start_agent(says(f"sleep {seconds}")) as run:
        terminal = run.conversation.agent.tools_map["terminal"].executor
        command = asyncio.create_task(asyncio.to_thread(terminal, TerminalAction(command=f"sleep {seconds}")))
        await until(lambda: _running(["sleep", seconds]))
        await asyncio.to_thread(terminal.close)
        assert "interrupted" in (await command).metadata.suffix
        assert (await asyncio.to_thread(terminal, TerminalAction(command="pwd"))).is_error
    assert not _running(["sleep", seconds])


def _running(command: list[str]) -> bool:
    return any(process.info["cmdline"] == command for process in psutil.process_iter(["cmdline"]))
