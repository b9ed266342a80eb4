"""Workspaces that a caller names: who may name which directory, and that it stays the caller's."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from a2a_gateway.runs.model import RunId
from a2a_gateway.testing.script import Gate, Step
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.support.ask import call, delegation, user
from tests.support.gateway import GatewayUnderTest, scripted_gateway

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"
WORKER = "openhands_priced"
PWD = Step(tool_calls=(call("terminal", command="pwd > here.txt"),))
DONE = Step(content="done")


@dataclass(frozen=True)
class Owner:
    """The owner of a directory, with a key that may name directories in it."""

    gateway: GatewayUnderTest
    home: Path
    key: str

    async def ask(self, task: Any, workspace: Path | str | None, *, model: str = WORKER, **headers: str) -> Any:
        """Ask with a workspace, and return the response."""
        named = {} if workspace is None else {"X-A2A-Workspace": quote(str(workspace))}
        async with self.gateway.http(self.key) as http:
            return await http.post(CHAT, json={"model": model, "messages": [task]}, headers={**named, **headers})


@pytest.fixture(scope="module")
def owner(_shared: tuple[GatewayUnderTest, ScriptedLLM], tmp_path_factory: pytest.TempPathFactory) -> Owner:
    home = tmp_path_factory.mktemp("home")
    gateway = _shared[0]
    _, key = gateway.create_key("owner", workspaces=[str(home)])
    return Owner(gateway, home, key)


async def test_an_agent_and_its_children_work_in_the_directory_until_the_conversation_ends(owner: Owner) -> None:
    project = owner.home / "my project"
    (project / "below").mkdir(parents=True)
    child = delegation("self", "Below.", Step(tool_calls=(call("terminal", command="pwd > child.txt"),)), DONE)
    first = await owner.ask(user("Work.", PWD, Step(tool_calls=(child,)), DONE), project)
    assert first.status_code == 200
    assert {(project / name).read_text() for name in ("here.txt", "child.txt")} == {f"{project}\n"}
    (project / "here.txt").unlink()
    conversation = {"X-OpenHands-ServerConversation-ID": first.headers["x-openhands-serverconversation-id"]}
    for named in (None, project):
        again = await owner.ask(user(f"Again {named}.", PWD, DONE), named, **conversation)
        assert again.status_code == 200
        assert (project / "here.txt").read_text() == f"{project}\n"
    elsewhere = await owner.ask(user("Elsewhere.", PWD, DONE), project / "below", **conversation)
    assert (elsewhere.status_code, elsewhere.json()["error"]["param"]) == (400, "X-A2A-Workspace")
    project.rename(owner.home / "moved")
    project.symlink_to(owner.gateway.data_dir.parent)
    swapped = await owner.ask(user("Swapped.", PWD, DONE), None, **conversation)
    assert (swapped.status_code, swapped.json()["error"]["code"]) == (403, "workspace_not_allowed")
    project.unlink()
    project.symlink_to(owner.home / "moved")
    swapped = await owner.ask(user("Swapped again.", PWD, DONE), None, **conversation)
    assert (swapped.status_code, swapped.json()["error"]["code"]) == (403, "workspace_not_allowed")
    project.unlink()
    gone = await owner.ask(user("Gone.", PWD, DONE), None, **conversation)
    assert (gone.status_code, gone.json()["error"]["code"]) == (400, "invalid_request_error")
    assert not project.exists()


async def test_a_conversation_with_a_workspace_of_its_own_keeps_it(owner: Owner) -> None:
    first = await owner.ask(user("Own.", DONE), None)
    conversation = {"X-OpenHands-ServerConversation-ID": first.headers["x-openhands-serverconversation-id"]}
    moved = await owner.ask(user("Named.", DONE), owner.home, **conversation)
    assert (moved.status_code, moved.json()["error"]["param"]) == (400, "X-A2A-Workspace")


async def test_what_a_key_may_not_name_is_refused_and_leaves_no_run(owner: Owner, llm: ScriptedLLM, tmp_path: Path) -> None:
    (owner.home / "out").symlink_to(tmp_path)
    (owner.home / "data").symlink_to(owner.gateway.data_dir)
    (owner.home / "file").touch()
    (owner.home / "loop").symlink_to("loop")
    (owner.home / "line\nbreak").mkdir()
    (owner.home / "printable").symlink_to("line\nbreak")
    sibling = owner.home.with_name(f"{owner.home.name}-sibling")
    sibling.mkdir()
    before = llm.traffic.received
    refusals = [(path, 403) for path in (tmp_path, owner.home / "out", owner.home / "data", owner.home.parent, sibling, "/")]
    unusable = [(owner.home / name, 400) for name in ("file", "missing", "loop", "printable", "x" * 300)]
    for path, status in [*refusals, *unusable, (tmp_path / "missing", 403)]:
        refused = await owner.ask(user("No.", DONE), path)
        code = "workspace_not_allowed" if status == 403 else "invalid_request_error"
        error = refused.json()["error"]
        assert (refused.status_code, error["code"], error["param"]) == (status, code, "X-A2A-Workspace"), path
        assert "x-a2a-run-id" not in refused.headers
    assert llm.traffic.received == before


async def test_a_key_without_directories_names_none(gateway: GatewayUnderTest, owner: Owner) -> None:
    _, key = await asyncio.to_thread(gateway.create_key, "no directories")
    refused = await Owner(gateway, owner.home, key).ask(user("No.", DONE), owner.home)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "workspace_not_allowed")


async def test_the_gateways_own_data_is_no_workspace_even_where_all_is_allowed(gateway: GatewayUnderTest) -> None:
    _, key = await asyncio.to_thread(gateway.create_key, "everywhere", workspaces=["/"])
    everywhere = Owner(gateway, Path("/"), key)
    for path in (gateway.data_dir, gateway.data_dir / "workspaces", gateway.data_dir.parent, Path("/")):
        refused = await everywhere.ask(user("No.", DONE), path)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "workspace_not_allowed"), path


async def test_an_agent_names_no_workspace_for_its_children(owner: Owner, llm: ScriptedLLM) -> None:
    leading = asyncio.create_task(owner.ask(user("Lead.", Step(content="done", gate=Gate("names none"))), owner.home))
    await llm.wait_until(lambda traffic: traffic.waiting_at("names none") == 1)
    service = owner.gateway.running.gateway.started.result().service
    (live,) = [live for live in service.live_runs if live.workspace_dir == str(owner.home)]
    child = Owner(owner.gateway, owner.home, service.tokens.mint(live.record))
    refused = await child.ask(user("Below.", DONE), owner.home)
    llm.open_gate("names none")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "workspace_not_allowed")
    assert (await leading).status_code == 200
    assert service.live_runs.get(RunId(live.record.id)) is None


async def test_a_fixed_directory_stays_and_a_named_one_is_never_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = f"---\nname: fixed\ndescription: Stays.\na2a: {{workspace: {tmp_path / 'fixed'}}}\n---\nYou work."
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    with scripted_gateway(tmp_path / "data", {"fixed": fixed}, conversation_ttl_s=0) as (gateway, _):
        _, key = await asyncio.to_thread(gateway.create_key, "owner", workspaces=[str(tmp_path)])
        owner = Owner(gateway, tmp_path, key)
        refused = await owner.ask(user("No.", DONE), tmp_path / "project", model="openhands_fixed")
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "X-A2A-Workspace")
        done = await owner.ask(user("Work.", PWD, DONE), tmp_path / "project", model="openhands_default")
        assert done.status_code == 200
        files = [tmp_path / "project" / name for name in ("gateway.toml", "src/gateway.toml")]
        writes = [call("file_editor", command="create", path=str(path), file_text="# settings") for path in files]
        await owner.ask(user("Write.", Step(tool_calls=tuple(writes)), DONE), tmp_path / "project", model="openhands_default")
    assert (tmp_path / "project" / "here.txt").exists()
    assert [path.exists() for path in files] == [False, True]
