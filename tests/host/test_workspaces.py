"""WorkspaceDirectories: private, separate, and removed whatever an agent did to them."""
# ruff: noqa: ASYNC240  # a test may block its own loop

import os
import resource
from pathlib import Path

import pytest

from a2a_gateway.errors import WorkspaceNotAllowed
from a2a_gateway.host.workspaces import WorkspaceDirectories
from a2a_gateway.runs.model import ConversationId
from tests.error_texts.texts import pattern_of

pytestmark = pytest.mark.anyio
ID = ConversationId("1b4e28ba-2fa1-11d2-883f-0016d3cca427")


@pytest.fixture
def workspaces(tmp_path: Path) -> WorkspaceDirectories:
    return WorkspaceDirectories(tmp_path / "data" / "workspaces")


async def test_each_workspace_is_new_empty_private_and_named_after_its_conversation(workspaces: WorkspaceDirectories) -> None:
    first, second = await workspaces.create(ID), await workspaces.create(ID)
    assert first != second
    for path in map(Path, (first, second)):
        assert path.name.startswith(f"{ID}-")
        assert path.stat().st_mode & 0o777 == 0o700
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert list(path.iterdir()) == []


@pytest.mark.parametrize("conversation_id", ["../../evil", "a/b", "", "x" * 300, ".."])
async def test_no_conversations_name_leads_out_of_the_root(workspaces: WorkspaceDirectories, conversation_id: str) -> None:
    path = Path(await workspaces.create(ConversationId(conversation_id)))
    assert path.parent == workspaces.root


async def test_removing_follows_no_link_and_minds_no_permission(workspaces: WorkspaceDirectories, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("kept")
    path = Path(await workspaces.create(ID))
    (path / "link").symlink_to(outside)
    (path / "locked" / "deep").mkdir(parents=True)
    (path / "locked" / "deep" / "file").touch()
    (path / "locked" / "deep" / "link").symlink_to(outside)
    os.mkfifo(path / "locked" / "fifo")
    for directory in (path / "locked" / "deep", path / "locked", path):
        directory.chmod(0)
    await workspaces.remove(str(path))
    assert list(workspaces.root.iterdir()) == []
    assert (outside / "file").read_text() == "kept"
    assert outside.stat().st_mode & 0o700 == 0o700


async def test_a_workspace_that_became_a_link_is_removed_as_a_link(workspaces: WorkspaceDirectories, tmp_path: Path) -> None:
    path = Path(await workspaces.create(ID))
    path.rmdir()
    (tmp_path / "outside").mkdir()
    path.symlink_to(tmp_path / "outside")
    await workspaces.remove(str(path))
    assert not path.is_symlink()
    assert (tmp_path / "outside").is_dir()


async def test_what_is_missing_is_ignored_and_what_was_not_made_here_is_refused(
    workspaces: WorkspaceDirectories, tmp_path: Path
) -> None:
    path = await workspaces.create(ID)
    await workspaces.remove(path)
    await workspaces.remove(path)
    (tmp_path / "precious").mkdir()
    for other in (tmp_path / "precious", workspaces.root, workspaces.root / "a" / "b", workspaces.root / "..", Path("/")):
        with pytest.raises(ValueError, match=pattern_of("ValueError: a workspace that was not made here")):
            await workspaces.remove(str(other))
    assert (tmp_path / "precious").is_dir()


async def test_a_profiles_own_directory_is_made_once_and_resolved(workspaces: WorkspaceDirectories, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(tmp_path)
    made = await workspaces.ensure(f"{tmp_path}/alias/shared")
    (tmp_path / "shared" / "file").touch()
    assert made == await workspaces.ensure(made) == str(tmp_path / "shared")
    assert (tmp_path / "shared" / "file").exists()


async def test_a_sweep_removes_what_is_not_kept(workspaces: WorkspaceDirectories) -> None:
    assert await workspaces.sweep(()) == 0
    kept, lost = await workspaces.create(ID), await workspaces.create(ID)
    (workspaces.root / "stray file").touch()
    assert await workspaces.sweep([kept]) == 2
    assert [str(path) for path in workspaces.root.iterdir()] == [kept]
    assert not Path(lost).exists()


async def test_a_tree_deeper_than_files_can_be_open_is_removed(workspaces: WorkspaceDirectories, tmp_path: Path) -> None:
    path = Path(await workspaces.create(ID))
    (tmp_path / "outside").mkdir(mode=0o755)
    directory = os.open(path, os.O_RDONLY)
    for _ in range(400):
        os.mkdir("d", dir_fd=directory)
        os.symlink(tmp_path / "outside", "link", dir_fd=directory)
        directory, above = os.open("d", os.O_RDONLY, dir_fd=directory), directory
        os.close(above)
    os.close(directory)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 150, limits[1]))
    try:
        await workspaces.remove(str(path))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert list(workspaces.root.iterdir()) == []
    assert (tmp_path / "outside").stat().st_mode & 0o777 == 0o755


@pytest.mark.linux("only there is a directory of files that not even root may remove")
async def test_what_nobody_may_remove_stays_and_stops_neither_a_sweep_nor_a_removal(caplog: pytest.LogCaptureFixture) -> None:
    stuck = WorkspaceDirectories(Path("/proc/self/fdinfo"))
    await stuck.sweep(())
    await stuck.remove(stuck.locate("0"))
    assert Path("/proc/self/fdinfo/0").exists()
    assert "directory_not_removed" in caplog.text


async def test_workspaces_on_another_disk_are_the_gateways_data_too(workspaces: WorkspaceDirectories, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    (disk / "workspaces" / "of another caller").mkdir(parents=True)
    workspaces.root.parent.mkdir()
    workspaces.root.symlink_to(disk / "workspaces")
    for path in (disk, disk / "workspaces", disk / "workspaces" / "of another caller", workspaces.root):
        with pytest.raises(WorkspaceNotAllowed):
            await workspaces.resolve_named(str(path), ["/"])
    (disk / "project").mkdir()
    assert await workspaces.resolve_named(f"{disk}/project", ["/"]) == f"{disk}/project"
