"""Shells started ahead: all that are asked for come, work, and are gone in the end."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from a2a_gateway.host.shell import Done, Ended, Interrupted, Shell, ShellError
from a2a_gateway.host.shell_pool import ShellPool, shell_environment
from tests.support.until import block_until

ENVIRONMENT = shell_environment({"PATH": os.environ["PATH"], "LLM_API_KEY": "sesame"})


def output(shell: Shell, command: str) -> str:
    shell.run(command)
    outcome = shell.wait(timeout_s=20, quiet_s=20)
    assert isinstance(outcome, Done)
    return outcome.output


def test_forty_shells_asked_for_at_once_all_answer_with_their_own_output(tmp_path: Path) -> None:
    together = threading.Barrier(40)

    def use(number: int) -> list[str]:
        together.wait()
        shell = pool.take()
        try:
            return [output(shell, f"echo first {number}"), output(shell, f"echo second {number}")]
        finally:
            pool.release(shell)

    with ShellPool(tmp_path, 2, ENVIRONMENT) as pool, ThreadPoolExecutor(40) as users:
        answers = list(users.map(use, range(40)))
    assert answers == [[f"first {number}\n", f"second {number}\n"] for number in range(40)]


def test_a_pool_of_none_starts_shells_when_they_are_asked_for(tmp_path: Path) -> None:
    with ShellPool(tmp_path, 0, ENVIRONMENT) as pool:
        assert output(pool.take(), "echo hello") == "hello\n"


def test_a_shell_that_died_while_it_waited_is_not_handed_out(tmp_path: Path) -> None:
    with ShellPool(tmp_path, 2, ENVIRONMENT) as pool:
        first = pool.take()
        waiting = wait_for_shells(tmp_path, {int(output(first, "echo $$"))}, count=2)
        # Found before they end: later they may have been reaped. A shell has ended when its keeper has.
        processes = [one for pid in waiting for one in (psutil.Process(pid), psutil.Process(pid).parent()) if one]
        for pid in waiting:
            os.kill(pid, signal.SIGKILL)
        psutil.wait_procs(processes, timeout=5)
        taken = pool.take()
        assert int(output(taken, "echo $$")) not in waiting


def test_closing_a_pool_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    with ShellPool(tmp_path, 1, ENVIRONMENT) as pool:
        shell = pool.take()
        output(shell, "mkdir -p ~/deep/er; chmod 0 ~/deep; setsid sleep 900 & disown")
    assert marked_processes(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ShellError):
        pool.take()


def test_whoever_waits_for_a_shell_is_told_when_the_pool_closes(tmp_path: Path) -> None:
    refused = []
    pool = ShellPool(tmp_path, 0, ENVIRONMENT)
    pool.__enter__()
    shells = [pool.take()]

    def take() -> None:
        try:
            shells.append(pool.take())
        except ShellError as error:
            refused.append(str(error))

    takers = [threading.Thread(target=take) for _ in range(12)]
    for taker in takers:
        taker.start()
    pool.__exit__()
    for taker in takers:
        taker.join(20)
    assert len(shells) - 1 + len(refused) == len(takers)
    assert marked_processes(tmp_path) == {}


CRASH = """
import sys, os, psutil
from pathlib import Path
from a2a_gateway.host.shell_pool import ShellPool
pool = ShellPool(Path(sys.argv[1]), 0, {"PATH": os.environ["PATH"]})
pool.__enter__()
shell = pool.take()
shell.run(sys.argv[2])
shell.wait(timeout_s=None, quiet_s=0.5)
if "keepers too" in sys.argv:
    [child.kill() for child in psutil.Process().children()]
os.kill(os.getpid(), 9)
"""


def crash(root: Path, command: str, *more: str) -> None:
    """Let a gateway's pool run a command in a process that is then killed."""
    crashed = subprocess.run([sys.executable, "-c", CRASH, str(root), command, *more], check=False)
    assert crashed.returncode == -signal.SIGKILL


@pytest.mark.linux("only Linux hands orphans to who asks for them")
@pytest.mark.parametrize(
    "command",
    [
        "sleep 1902",
        "trap '' HUP; sleep 1902",
        "setsid sleep 1902 & disown",
        "(setsid nohup env -i sleep 1902 </dev/null >/dev/null 2>&1 &)",
        "(setsid env -i bash -c 'while :; do (sleep 1902 & disown); sleep 0.01; done' </dev/null >/dev/null 2>&1 &)",
    ],
    ids=["in-the-foreground", "deaf-to-hanging-up", "detached", "without-an-environment", "forking-on"],
)
def test_what_agents_have_started_ends_with_their_gateway_however_that_ends(tmp_path: Path, command: str) -> None:
    crash(tmp_path, command)
    look = threading.Event()
    while any("1902" in " ".join(arguments_of(process)) for process in psutil.process_iter()):
        look.wait(0.02)  # the process that ends them has no parent to notify


@pytest.mark.parametrize("end_of_the_keeper", ["KILL", "STOP"])
def test_a_shell_whose_keeper_an_agent_has_ended_leaves_nothing_all_the_same(tmp_path: Path, end_of_the_keeper: str) -> None:
    shell = Shell.start(make_directory(tmp_path / "shell"), bash(), ENVIRONMENT)
    shell.run(f"setsid sleep 1903 & kill -{end_of_the_keeper} $PPID")
    shell.wait(timeout_s=20, quiet_s=20)
    shell.kill()
    assert marked_processes(tmp_path) == {}


def test_what_a_crashed_gateway_left_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    crash(tmp_path, "(trap '' HUP; setsid sleep 901 </dev/null >/dev/null 2>&1 &)", "keepers too")
    left = marked_processes(tmp_path)
    assert left
    with ShellPool(tmp_path, 0, ENVIRONMENT) as living:
        assert marked_processes(tmp_path).keys() & left.keys() == set()
        kept = living.take()
        with ShellPool(tmp_path, 0, ENVIRONMENT):
            assert output(kept, "echo alive") == "alive\n"


@pytest.mark.parametrize("command", ["while :; do :; done", "trap '' INT; sleep 60", "(trap '' INT TERM; sleep 60; sleep 60)"])
def test_an_interrupted_shell_ends_its_command_and_takes_no_other(tmp_path: Path, command: str) -> None:
    shell = Shell.start(make_directory(tmp_path / "shell"), bash(), ENVIRONMENT)
    shell.run(command)
    shell.interrupt()
    assert isinstance(shell.wait(timeout_s=20, quiet_s=20), Interrupted)
    with pytest.raises(ShellError):
        shell.run("echo on")
    shell.kill()
    shell.kill()
    assert marked_processes(tmp_path) == {}


@pytest.mark.linux("process namespaces are Linux's")
def test_interrupting_a_shell_that_has_ended_signals_no_other_process(tmp_path: Path) -> None:
    # In a container the session's first process may be outside, and is then 0, as is the group of a terminal
    # that no process has.
    container = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        container += ["--user", "--map-root-user"]
    if subprocess.run([*container, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may make no process namespace")
    program = f"""if True:
        import os
        from pathlib import Path
        from a2a_gateway.host.shell import Ended, Shell
        assert os.getsid(0) == 0
        shell = Shell.start(Path({str(make_directory(tmp_path / "shell"))!r}), {bash()!r}, {dict(ENVIRONMENT)!r})
        shell.run("exit")
        assert isinstance(shell.wait(timeout_s=20, quiet_s=20), Ended)
        shell.interrupt()
        shell.kill()
        print("unharmed")
    """
    told = subprocess.run(
        [*container, sys.executable, "-c", program], capture_output=True, text=True, check=False, start_new_session=True
    )
    assert told.stdout == "unharmed\n", told.stderr


@pytest.mark.linux("only Linux hands orphans to a subreaper")
def test_what_a_shell_has_left_is_not_handed_on_when_it_is_dead(tmp_path: Path) -> None:
    program = f"""if True:
        from pathlib import Path
        import psutil
        from a2a_gateway.host.orphans import become_parent_of_orphans
        from a2a_gateway.host.shell import Shell
        become_parent_of_orphans()
        shell = Shell.start(Path({str(make_directory(tmp_path / "shell"))!r}), {bash()!r}, {dict(ENVIRONMENT)!r})
        shell.run("sleep 901 & (setsid sleep 902 &); (setsid bash -c 'sleep 903 & sleep 904' &)")
        shell.wait(timeout_s=20, quiet_s=20)
        shell.kill()
        print(psutil.Process().children())
    """
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"


@pytest.mark.parametrize(("command", "exit_code"), [("exit 3", 3), ("kill -9 $$", -9), ("kill -HUP $$", -1)])
def test_how_a_shell_ended_is_told(tmp_path: Path, command: str, exit_code: int) -> None:
    shell = Shell.start(make_directory(tmp_path / "shell"), bash(), ENVIRONMENT)
    shell.run(command)
    outcome = shell.wait(timeout_s=20, quiet_s=20)
    shell.kill()
    assert isinstance(outcome, Ended)
    assert outcome.exit_code == exit_code


@pytest.mark.parametrize(
    "command",
    [
        "unset PROMPT_COMMAND",
        "PROMPT_COMMAND=",
        "PROMPT_COMMAND=true",
        "set -u; unset PROMPT_COMMAND",
        "PROMPT_COMMAND=(true true)",
        'PROMPT_COMMAND="true; $PROMPT_COMMAND"',
    ],
)
def test_a_command_that_changes_what_comes_before_the_prompt_is_seen_to_end(tmp_path: Path, command: str) -> None:
    shell = Shell.start(make_directory(tmp_path / "shell"), bash(), ENVIRONMENT)
    try:
        assert output(shell, command) == ""
        shell.run("(exit 7)")
        outcome = shell.wait(timeout_s=20, quiet_s=20)
        assert isinstance(outcome, Done)
        assert outcome.report.exit_code == 7
        assert output(shell, "echo $?") == "7\n"
    finally:
        shell.kill()


def test_typing_at_a_program_that_does_not_read_is_refused_in_the_end(tmp_path: Path) -> None:
    shell = Shell.start(make_directory(tmp_path / "shell"), bash(), ENVIRONMENT)
    shell.run("stty raw; sleep 60")
    with pytest.raises(ShellError):
        shell.type(b"x" * 1_000_000)
    shell.kill()
    with pytest.raises(ShellError):
        shell.run("echo gone")


def test_a_program_that_is_no_shell_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ShellError):
        Shell.start(make_directory(tmp_path / "shell"), "/bin/false", ENVIRONMENT)
    assert list(tmp_path.iterdir()) == []


def test_a_shells_environment_is_short_and_without_the_gateways_virtual_env() -> None:
    environ = {
        "PATH": f"{sys.prefix}/bin:/usr/bin",
        "TZ": "UTC",
        "OPENAI_API_KEY": "sesame",
        "HTTP_PROXY": "http://u:p@x",
        "HOME": "/x",
    }
    own = sys.prefix != sys.base_prefix
    assert shell_environment(environ) == {
        "PATH": "/usr/bin" if own else environ["PATH"],
        "TZ": "UTC",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "PAGER": "cat",
        "GIT_PAGER": "cat",
        "GIT_TERMINAL_PROMPT": "0",
    }


def bash() -> str:
    found = shutil.which("bash")
    assert found is not None, "the gateway's terminal needs bash"
    return found


def make_directory(path: Path) -> Path:
    path.mkdir()
    return path


def arguments_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def marked_processes(root: Path) -> dict[int, str]:
    found = {}
    for process in psutil.process_iter():
        try:
            if process.environ().get("AGENT_SHELL", "").startswith(f"{root}/") and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = process.name()
        except psutil.Error:
            continue
    return found


def wait_for_shells(root: Path, known: set[int], count: int) -> set[int]:
    """Wait until `count` more shells than those known stand ready, and return them."""

    def new_shells() -> set[int] | None:
        found = {pid for pid, name in marked_processes(root).items() if name == "bash" and pid not in known}
        return found if len(found) == count else None

    return block_until(new_shells)
