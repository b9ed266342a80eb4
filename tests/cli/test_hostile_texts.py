"""Texts of agents, peers and gateways that would command the reader's terminal."""

import json
import re
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from rich.cells import cell_len
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from a2a_gateway.cli.screen import note, show, show_error, show_piece, table
from a2a_gateway.testing.serving import serve_app
from delegate_tool.protocol.text import legible
from tests.cli.conftest import CommandLine
from tests.support.pseudo_terminal import pseudo_terminal
from tests.support.until import until

COMMANDS = {
    "clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "title": "\x1b]0;title\x1b\\",
    "clear": "\x1b[2J\x1b[H",
    "csi of C1": "\x9b2J",
    "osc of C1": "\x9d0;title\x9c",
    "bell and backspace": "\x07\b\b\b",
    "overwritten line": "approved\rrejected",
    "other direction": "\u202egnitcnahc\u2066",
}
EVIL = "".join(COMMANDS.values())
HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
MARKUP = "[red]bold[/red] :warning: [link=http://x]"


def run_node(**changes: Any) -> dict[str, Any]:
    node = {
        "id": f"run{EVIL}",
        "agent": f"agent{EVIL}{MARKUP}",
        "depth": 0,
        "state": f"failed{EVIL}",
        "created_at": f"2026-11-30T00:00:00Z{EVIL}",
        "seconds": 1.5,
        "turns": 1,
        "tokens": {"prompt": 1, "completion": 1},
        "cost": {"self": f"0.1{EVIL}", "tree": f"0.1{EVIL}", "complete": True},
        "descendants": 1,
        "limits": {"max_depth": 3},
        "error_code": f"code{EVIL}",
        "gateway": f"gate{EVIL}",
    }
    return {**node, **changes}


async def chat(request: Request) -> Response:
    """Stream a sequence in pieces that are cut within it."""
    if (await request.json())["model"] == "failing":
        return JSONResponse({"error": {"message": f"It failed{EVIL}{MARKUP}", "code": f"code{EVIL}"}}, 500)

    async def pieces() -> Any:
        if (await request.json())["model"] == "working":
            asked = request.app.state.trees
            await until(lambda: request.app.state.trees > asked + 1)  # the status line has shown the first
        for piece in (*f"Answer {EVIL}{MARKUP}", " ends."):
            yield f"data: {json.dumps({'choices': [{'delta': {'content': piece}, 'finish_reason': None}]})}\n\n"
        yield f"data: {json.dumps({'choices': [{'delta': {}, 'finish_reason': 'stop'}]})}\n\ndata: [DONE]\n\n"

    headers = {"x-a2a-run-id": "run", "x-openhands-serverconversation-id": "\x9b2Jconversation"}
    return StreamingResponse(pieces(), media_type="text/event-stream", headers=headers)


async def runs(_: Request) -> Response:
    return JSONResponse({"data": [run_node()]})


async def events(_: Request) -> Response:
    """Report the start of tools with hostile names; the run never ends."""

    async def pieces() -> Any:
        for number, tool in enumerate(("delegate", f"tool{EVIL}{MARKUP}\nline")):
            yield f"data: {json.dumps({'type': 'tool.started', 'tool': tool, 'call_id': str(number)})}\n\n"
        await anyio.sleep_forever()

    return StreamingResponse(pieces(), media_type="text/event-stream")


async def one_run(request: Request) -> Response:
    request.app.state.trees += 1
    below = [run_node(depth=1, gateway=f"other{EVIL}", unreachable=f"gone{EVIL}"), run_node(depth=1, state="running")]
    return JSONResponse(run_node(children=below))


ROUTES = [
    Route("/v1/chat/completions", chat, methods=["POST"]),
    Route("/v1/runs", runs),
    Route("/v1/runs/{run_id}/events", events),
    Route("/v1/runs/{run_id}/tree", one_run),
    Route("/v1/runs/{run_id}/cancel", one_run, methods=["POST"]),
]


@pytest.fixture(scope="module")
def hostile() -> Iterator[CommandLine]:
    """A command line that asks a gateway whose every text is hostile."""
    app = Starlette(routes=ROUTES)
    app.state.trees = 0
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serve_app(app)) as url:
        yield CommandLine({"A2A_BASE_URL": f"{url}/v1", "A2A_API_KEY": "key"})


@pytest.mark.parametrize("command", [*COMMANDS.values(), "\ud800"], ids=[*COMMANDS, "half a pair"])
def test_no_command_survives_and_what_it_was_can_be_seen(command: str) -> None:
    made = legible(f"before {command} after")
    assert HARMFUL.search(made) is None
    assert made.startswith("before ")
    assert made.endswith(" after")
    assert "".join(map(legible, f"before {command} after")) == made  # also piece by piece


def test_plain_text_in_any_script_is_left_as_it_is() -> None:
    text = "Tab\tand line\nünïcödé 漢字 עברית \u200fعربي 👩\u200d💻 [x] :x: \\x1b"
    assert legible(text) == text


@pytest.mark.parametrize(
    "arguments",
    [["ask", "agent", "Hi"], ["ask", "failing", "Hi"], ["runs", "list"], ["runs", "tree", "x"], ["runs", "cancel", "x"]],
)
def test_nothing_of_a_gateway_commands_the_terminal(hostile: CommandLine, arguments: list[str]) -> None:
    result = hostile.run(*arguments)
    assert HARMFUL.search(result.stdout + result.stderr) is None
    assert "\\x1b]52;c;" in result.stdout + result.stderr
    if "cancel" not in arguments:
        assert MARKUP in result.stdout + result.stderr  # taken for no markup


@pytest.mark.parametrize("arguments", [["ask", "agent", "Hi"], ["runs", "list"], ["runs", "tree", "x"]])
def test_json_is_valid_holds_each_text_exactly_and_is_harmless(hostile: CommandLine, arguments: list[str]) -> None:
    result = hostile.run(*arguments, "--json")
    assert HARMFUL.search(result.stdout) is None
    assert any(EVIL in text for text in texts_of(json.loads(result.stdout)))


def texts_of(value: Any) -> list[str]:
    """Return all texts in a JSON value."""
    if isinstance(value, dict | list):
        return [text for inner in (value.values() if isinstance(value, dict) else value) for text in texts_of(inner)]
    return [str(value)]


@pytest.mark.parametrize(
    ("arguments", "columns"),
    [(["runs", "list"], 200), (["ask", "working", "Hi"], 400), (["ask", "working", "Hi"], 30)],
    ids=["a table", "a status line", "a narrow status line"],
)
def test_a_terminal_gets_colours_and_no_command(hostile: CommandLine, arguments: list[str], columns: int) -> None:
    with pseudo_terminal(*arguments, environ=hostile.environ, columns=columns) as terminal:
        assert terminal.wait() == 0
    styles = re.compile(r"\x1b\[[0-9;]*m|\r(\x1b\[2K)?")
    assert styles.search(terminal.shown)
    assert HARMFUL.search(styles.sub("", terminal.shown)) is None
    assert "\\x1b]52;c;" in terminal.shown
    painted = re.findall(r"\x1b\[2m([⠀-⣿][^\x1b\n]*)", terminal.shown)
    assert bool(painted) == (arguments[0] == "ask")
    assert max(map(cell_len, painted), default=0) < columns


def test_every_way_to_write_is_safe(capsys: pytest.CaptureFixture[str]) -> None:
    listed = table("name", EVIL)
    listed.add_row(EVIL, f"x{EVIL}")
    for text in (f"{EVIL}{MARKUP}", f"{MARKUP}{EVIL}"):
        show(text)
        note(text)
        show_error(text, text)
        show_piece(text)
    show(listed)
    written = capsys.readouterr()
    assert HARMFUL.search(written.out + written.err) is None
    assert (written.out.count(MARKUP), written.err.count(MARKUP)) == (4, 6)
